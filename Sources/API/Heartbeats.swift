import Jobs
import ServiceLifecycle
import Synchronization

/// Wakes every open event stream from time to time, so that neither proxies nor idle limits close it; one timer for all.
package final class Heartbeats: Service {
    private let interval: Duration
    private let beats = Mutex<[ObjectIdentifier: @Sendable () -> Void]>([:])

    package init(interval: Duration) {
        self.interval = interval
    }

    package func add(_ stream: AnyObject, beat: @escaping @Sendable () -> Void) {
        beats.withLock { $0[ObjectIdentifier(stream)] = beat }
    }

    /// - Returns: whether it was there.
    func remove(_ stream: AnyObject) -> Bool {
        beats.withLock { $0.removeValue(forKey: ObjectIdentifier(stream)) != nil }
    }

    package func run() async throws {
        try await repeating(every: interval) { self.beat() }
    }

    func beat() {
        for beat in beats.withLock({ $0 }).values { beat() }
    }
}
