import ArgumentParser
import NIOCore
import OrderedCollections
import OrderedJSON
import PreviewStamp

struct Ceiling: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "How much the simulator can do: jobs per second over direct sockets, and previews per second to one socket.")

    @Option(help: "The simulator, http only.")
    var url: String

    @Option(help: "Callers at the same time.")
    var callers = 32

    @Option(help: "Jobs in all.")
    var jobs = 4000

    @Option(help: "one-step, picture or delay:MS.")
    var kind = JobTemplate.Kind.picture

    @Option(help: "Previews in all.")
    var frames = 5000

    @Option(help: "Bytes of a preview's JPEG.")
    var size = 51_200

    func validate() throws {
        guard callers > 0, jobs > 0, frames > 0, size >= PreviewStamp.minimumSize else {
            throw ValidationError("--callers, --jobs and --frames are above 0, --size is \(PreviewStamp.minimumSize) at least")
        }
    }

    struct Report: Encodable {
        let jobs: JobReport
        let previews: PreviewCeiling.Report
    }

    func run() async throws {
        let target = try Target(url)
        let (report, complaints) = try await JobCallers(JobTemplate(kind)).run(callers: callers, jobs: jobs, rate: nil) { loop in
            try await DirectCaller.connect(target, on: loop)
        }
        let previews = try await PreviewCeiling().run(target, frames: frames, size: size)
        try Output.write(Report(jobs: report, previews: previews), complaints)
    }
}

/// A job that sends previews as fast as it can to one socket.
actor PreviewCeiling {
    struct Report: Encodable {
        let frames: Int
        let seconds: Double
        let previewsPerSecond: Double
        let megabytesPerSecond: Double
        let generator: OwnCost
    }

    nonisolated var unownedExecutor: UnownedSerialExecutor { LoadLoop.executor }

    /// - Throws: `ProtocolViolation` when not all previews came, in their size and their order.
    func run(_ target: Target, frames: Int, size: Int) async throws -> Report {
        let caller = try await DirectCaller.connect(target, on: LoadLoop.loop)
        defer { caller.close() }
        let cost = OwnCost.Meter(), begin = MonotonicClock.now
        guard case .succeeded(let end) = try await caller.run(PreviewJob.graph(frames: frames, rate: 0, size: size).encoded()) else {
            throw ProtocolViolation("the job of the previews was refused")
        }
        try caller.checkPreviews(frames, size: size)
        let seconds = Double(end - begin) / 1e9
        return Report(
            frames: frames, seconds: seconds.rounded(to: 3), previewsPerSecond: (Double(frames) / seconds).rounded(to: 1),
            megabytesPerSecond: (Double(frames * size) / seconds / 1e6).rounded(to: 1), generator: cost.read())
    }
}
