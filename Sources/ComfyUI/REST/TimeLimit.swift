package import NIOCore
import Synchronization

struct TimeLimitExceeded: Error {}

/// Runs `operation`; once `limit` has passed it is cancelled, waited for, and `TimeLimitExceeded` is thrown.
func withTimeLimit<Value: Sendable>(
    _ limit: Duration, on eventLoop: any EventLoop, _ operation: @escaping @Sendable () async throws -> Value
) async throws -> Value {
    try await withThrowingTaskGroup(of: Value.self) { group in
        group.addTask { try await operation() }
        group.addTask {
            try await eventLoop.sleep(for: limit)
            throw TimeLimitExceeded()
        }
        defer { group.cancelAll() }
        return try await group.next()!
    }
}

extension EventLoop {
    /// `Task.sleep` with a timer that ends with the task: that one's stays until its time, which for waits that hardly ever come to their end
    /// makes thousands of them on a busy bridge. Throws `CancellationError` as it does.
    package func sleep(for duration: Duration) async throws {
        let timer = scheduleTask(in: TimeAmount(duration)) {}
        try await withTaskCancellationHandler {
            do { try await timer.futureResult.get() } catch EventLoopError.cancelled { throw CancellationError() }
        } onCancel: {
            timer.cancel()
        }
    }
}

/// When something last happened.
final class Activity: Sendable {
    private let last = Mutex<ContinuousClock.Instant?>(.now)

    func note() { last.withLock { $0 = .now } }
    /// Until the next note nothing is expected to happen.
    func pause() { last.withLock { $0 = nil } }
    /// Now, while nothing is expected.
    var instant: ContinuousClock.Instant { last.withLock { $0 } ?? .now }
}

/// Runs `operation`; once nothing was noted in `activity` for `limit` it is cancelled, waited for, and `ComfyUIError.timedOut` is thrown.
func withIdleLimit<Value: Sendable>(
    _ limit: Duration, _ activity: Activity, on eventLoop: any EventLoop, _ operation: @escaping @Sendable () async throws -> Value
) async throws -> Value {
    try await withThrowingTaskGroup(of: Value.self) { group in
        group.addTask { try await operation() }
        group.addTask {
            while true {
                let rest = ContinuousClock.now.duration(to: activity.instant + limit)
                guard rest > .zero else { throw ComfyUIError.timedOut }
                try await eventLoop.sleep(for: rest)
            }
        }
        defer { group.cancelAll() }
        return try await group.next()!
    }
}
