import ArgumentParser
import PreviewStamp

struct Watch: AsyncParsableCommand {
    enum Dialect: String, ExpressibleByArgument { case bridge, plain }
    enum Encoding: String, ExpressibleByArgument { case base64, url }

    static let configuration = CommandConfiguration(
        abstract: "Opens event streams of one job, and measures from the stamp in each preview to its receipt.",
        discussion: """
            Without --path the bridge is given a job that sends --frames previews of --size bytes, --rate a second; it starts when all viewers are there.
            The simulator behind it writes the stamps. With --dialect plain the generator itself sends the same pictures to --publish, for
            servers that only fan out.
            """)

    @Option(help: "The server, http only.")
    var url: String

    @Option(help: "Streams that are read to their end.")
    var viewers = 1

    @Option(help: "More streams that are opened and then not read.")
    var slow = 0

    @Option(help: "The events of a job that there is.")
    var path: String?

    @Option(help: "Previews per second. 0 (plain only): each when all viewers have had the last one.")
    var rate = 20.0

    @Option(help: "Previews in all.")
    var frames = 100

    @Option(help: "Bytes of a preview's JPEG.")
    var size = 51_200

    @Option(help: "bridge or plain.")
    var dialect = Dialect.bridge

    @Option(help: "base64: previews are in the events; url: each is fetched as a file, one after the other (bridge only).")
    var encoding = Encoding.base64

    @Option(help: "Where frames are posted to (plain only).")
    var publish: String?

    @Option(help: "Seconds after which viewers that have not got everything are given up.")
    var timeout = 120.0

    func validate() throws {
        guard viewers > 0, slow >= 0, frames > 0, rate >= 0, size >= PreviewStamp.minimumSize, timeout > 0 else {
            throw ValidationError("--viewers, --frames and --timeout are above 0, --size is \(PreviewStamp.minimumSize) at least")
        }
        switch dialect {
        case .bridge:
            guard publish == nil, rate > 0 else { throw ValidationError("--publish and --rate 0 are for --dialect plain") }
        case .plain:
            guard publish != nil, path != nil else { throw ValidationError("--dialect plain needs --path and --publish") }
            guard encoding == .base64 else { throw ValidationError("--encoding url is for --dialect bridge") }
        }
    }

    func run() async throws {
        let session = WatchSession(self, target: try Target(url), publish: try publish.map(Target.init))
        let (report, complaints) = try await session.run()
        try Output.write(report, complaints)
    }
}
