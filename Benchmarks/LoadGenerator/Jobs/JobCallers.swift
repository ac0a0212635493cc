import NIOCore
import NIOPosix
import OrderedCollections
import OrderedJSON
import PreviewStamp

/// Somebody who has jobs run, one after the other.
protocol JobCaller {
    /// Returns when the job's result is known to the caller.
    func run(_ graph: [UInt8]) async throws -> JobOutcome
    func close()
}

enum JobOutcome {
    /// By `MonotonicClock`.
    case succeeded(at: UInt64)
    case refused(status: Int)
}

/// Callers that share a number of jobs, all on one event loop.
actor JobCallers {
    private let loop: any EventLoop
    private let template: JobTemplate
    private var tally = JobTally()
    /// Colours have 24 bits. Another start for each process, so that a simulator that saw an earlier one knows none of these jobs.
    private let firstSeed = Int(MonotonicClock.now >> 10 & 0xFF_FFFF)

    nonisolated var unownedExecutor: UnownedSerialExecutor { LoadLoop.executor }

    init(_ template: JobTemplate) {
        self.template = template
        loop = LoadLoop.loop
    }

    /// - Throws: `ProtocolViolation` when an answer was wrong; the report is in it.
    func run(
        callers: Int, jobs: Int, rate: Double?, connect: @escaping @Sendable (any EventLoop) async throws -> sending any JobCaller
    ) async throws -> (JobReport, Complaints) {
        var connected: [any JobCaller] = []
        for _ in 0..<callers { connected.append(try await connect(loop)) }
        defer { for caller in connected { caller.close() } }
        tally = JobTally()
        let pacing = Pacing(count: jobs, rate: rate, loop: loop)
        let shared = NIOLoopBound((connected, pacing), eventLoop: loop)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for index in 0..<callers { group.addTask { try await self.work(index, shared) } }
            try await group.waitForAll()
        }
        return (tally.report, tally.complaints)
    }

    private func work(_ index: Int, _ shared: NIOLoopBound<([any JobCaller], Pacing)>) async throws {
        let (callers, pacing) = shared.value
        while let start = try await pacing.take() {
            let graph = template.graph(seed: (firstSeed + start.number) & 0xFF_FFFF)
            do {
                switch try await callers[index].run(graph) {
                case .succeeded(let end): tally.succeeded(start, at: end)
                case .refused(let status): tally.refused(status)
                }
            } catch {
                tally.complain("job \(start.number): \(error)")
            }
        }
    }
}

/// The one loop on which everything happens.
enum LoadLoop {
    static let loop: any EventLoop = MultiThreadedEventLoopGroup(numberOfThreads: 1).next()
    static var executor: UnownedSerialExecutor { loop.executor.asUnownedSerialExecutor() }
}
