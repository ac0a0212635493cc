import Foundation
import NIOCore
import PreviewStamp

/// One `idle`, on the load loop.
actor IdleSession {
    struct Report: Encodable {
        let viewers: Int
        let heartbeats: Int
        /// Until the last stream was open.
        let openSeconds: Double
        let heldSeconds: Double
        /// Received while they were held.
        let bytes: Int
        let generator: OwnCost
    }

    private let options: Idle
    private let target: Target
    private let loop = LoadLoop.loop
    private let audience: Audience
    private var viewers: [Viewer] = []

    nonisolated var unownedExecutor: UnownedSerialExecutor { LoadLoop.executor }

    init(_ options: Idle, target: Target) {
        self.options = options
        self.target = target
        audience = Audience(options.dialect == .bridge ? .bridge : .plain, library: nil, readers: options.viewers)
    }

    func run() async throws -> (Report, Complaints) {
        if let path = options.path { return try await hold(target.path + Target.path(of: path)) }
        let job = try await GatedJob.submit(JobTemplate(.picture).json(seed: 1), to: target, on: loop)
        do {
            let result = try await hold(job.events)
            try await job.cancel()
            return result
        } catch {
            try await job.cancel()
            throw error
        }
    }

    private func hold(_ path: String) async throws -> (Report, Complaints) {
        let cost = OwnCost.Meter(), begin = MonotonicClock.now
        defer { for viewer in viewers { viewer.leave() } }
        viewers = try await Viewer.open(options.viewers, slow: 0, audience, target, path, on: loop)
        guard await audience.opened.wait(.seconds(60), on: loop) else { throw ProtocolViolation("not all streams are open after a minute") }
        let opened = MonotonicClock.now, bytes = audience.bytes
        Output.line("open \(options.viewers)")
        await waitForEnd()
        let report = Report(
            viewers: options.viewers, heartbeats: audience.heartbeats, openSeconds: (Double(opened - begin) / 1e9).rounded(to: 3),
            heldSeconds: (Double(MonotonicClock.now - opened) / 1e9).rounded(to: 3), bytes: audience.bytes - bytes, generator: cost.read())
        return (report, audience.complaints)
    }

    /// Until standard input ends, `--hold` is over or all streams have ended.
    private func waitForEnd() async {
        let over = Countdown(1)
        let bound = NIOLoopBound(over, eventLoop: loop), loop = loop
        Thread.detachNewThread {  // ends with the process; whatever standard input is, reading it works
            while !FileHandle.standardInput.availableData.isEmpty {}
            loop.execute { bound.value.count() }
        }
        _ = await over.wait(.milliseconds(Int64(options.hold * 1000)), on: loop)
    }
}
