import Synchronization

@testable import Jobs

/// Timers whose time passes when the test says so.
final class ManualTimers: Timers {
    private struct Timer: ScheduledTimer {
        let number: Int
        let timers: ManualTimers

        func cancel() { timers.state.withLock { _ = $0.pending.removeValue(forKey: number) } }
    }

    private struct State {
        var scheduled = 0
        var pending: [Int: (time: Duration, body: @Sendable () -> Void)] = [:]
    }

    private let state = Mutex(State())
    /// Says whenever one is started.
    let starts: AsyncStream<Void>
    private let started: AsyncStream<Void>.Continuation

    init() { (starts, started) = AsyncStream.makeStream() }

    /// The times of those that are neither over nor cancelled, in the order in which they were started.
    var pending: [Duration] { state.withLock { state in state.pending.sorted { $0.key < $1.key }.map(\.value.time) } }
    /// How many were ever started.
    var scheduled: Int { state.withLock { $0.scheduled } }

    func schedule(after time: Duration, _ body: @escaping @Sendable () -> Void) -> any ScheduledTimer {
        let number = state.withLock { state in
            state.scheduled += 1
            state.pending[state.scheduled] = (time, body)
            return state.scheduled
        }
        started.yield()
        return Timer(number: number, timers: self)
    }

    /// The time of all that are pending is over.
    func pass() {
        let over = state.withLock { state in
            defer { state.pending = [:] }
            return state.pending.sorted { $0.key < $1.key }.map(\.value.body)
        }
        for body in over { body() }
    }
}
