import NIOCore
import PreviewStamp

/// Hands out jobs and the moments at which they are to start. With a rate these are fixed from the beginning: a job that starts late because
/// everybody waits for answers is late from there on (no coordinated omission). Without one a job starts when a caller is free.
final class Pacing {
    struct Start {
        let number: Int
        /// By `MonotonicClock`; latency counts from here.
        let time: UInt64
    }

    private let count: Int
    private let interval: Double?
    private let loop: any EventLoop
    private let begin = MonotonicClock.now
    private var next = 0

    /// - Parameter rate: jobs per second; nil: as fast as callers are free.
    init(count: Int, rate: Double?, loop: any EventLoop) {
        self.count = count
        self.loop = loop
        interval = rate.map { 1e9 / $0 }
    }

    /// Returns when the job is to start, or later when that has passed. Nil: there are no more.
    func take() async throws -> Start? {
        guard next < count else { return nil }
        let number = next
        next += 1
        guard let interval else { return Start(number: number, time: MonotonicClock.now) }
        let time = begin + UInt64(Double(number) * interval)
        try await loop.sleep(until: time)
        return Start(number: number, time: time)
    }
}

extension EventLoop {
    /// - Parameter time: by `MonotonicClock`.
    func sleep(until time: UInt64) async throws {
        let now = MonotonicClock.now
        guard time > now else { return }
        try await scheduleTask(in: .nanoseconds(Int64(time - now))) {}.futureResult.get()
    }
}
