import Dispatch

/// Calls back after a time. Tests have timers of their own, which pass when the test says so.
package protocol Timers: Sendable {
    /// Calls `body` once, from any thread, unless the timer is cancelled before.
    func schedule(after time: Duration, _ body: @escaping @Sendable () -> Void) -> any ScheduledTimer
}

package protocol ScheduledTimer: Sendable {
    /// The timer goes, and what it holds with it; after its time it does nothing. (A cancelled `Task.sleep`, or a work item of Dispatch's `asyncAfter`, stays in
    /// memory until its time: for a caller that would wait a day and has its answer in a second, a day.)
    func cancel()
}

/// Timers of the system.
package struct SystemTimers: Timers {
    package init() {}

    package func schedule(after time: Duration, _ body: @escaping @Sendable () -> Void) -> any ScheduledTimer { DispatchTimer(after: time, body) }
}

/// Dispatch keeps all its timers in one heap, from which a cancelled source is taken at once.
private final class DispatchTimer: ScheduledTimer, @unchecked Sendable {
    // Sources may be used from any thread.
    private let source: any DispatchSourceTimer

    init(after time: Duration, _ body: @escaping @Sendable () -> Void) {
        let source = DispatchSource.makeTimerSource(queue: .global())
        self.source = source
        // Until it is cancelled the handler keeps the source, which would go with its last owner.
        source.setEventHandler {
            source.cancel()
            body()
        }
        source.schedule(deadline: .now() + .nanoseconds(Int(min(time, Self.longest) / .nanoseconds(1))))
        source.activate()
    }

    func cancel() { source.cancel() }

    /// Thirty years, about: longer ones would overflow.
    private static let longest = Duration.seconds(1_000_000_000)
}
