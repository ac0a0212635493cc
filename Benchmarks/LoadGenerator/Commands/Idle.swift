import ArgumentParser
import Foundation

struct Idle: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Opens event streams on which nothing happens and holds them, so that the server can be looked at.",
        discussion: """
            Prints 'open N' when every stream has its head (of a bridge: its first event), holds them until standard input ends or --hold is over,
            and then prints the JSON. A stream that ends meanwhile is an error. Without --path a bridge is given a job that only waits.
            """)

    @Option(help: "The server, http only.")
    var url: String

    @Option(help: "The events of a job that there is; --dialect plain needs it.")
    var path: String?

    @Option(help: "Streams.")
    var viewers = 1000

    @Option(help: "Seconds at most.")
    var hold = 3600.0

    @Option(help: "bridge or plain.")
    var dialect = Watch.Dialect.bridge

    func validate() throws {
        guard viewers > 0, hold > 0 else { throw ValidationError("--viewers and --hold are above 0") }
        guard dialect == .bridge || path != nil else { throw ValidationError("--dialect plain needs --path") }
    }

    func run() async throws {
        let (report, complaints) = try await IdleSession(self, target: try Target(url)).run()
        try Output.write(report, complaints)
    }
}
