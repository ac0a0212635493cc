import Synchronization

/// Wakes whoever waits for something to come true, whenever something has changed. Any thread.
package final class Changes: Sendable {
    private let waiting = Mutex<[UInt64: AsyncStream<Void>.Continuation]>([:])
    private let lastID = Atomic<UInt64>(0)

    package init() {}

    /// Something has changed, and can be seen by who looks now.
    package func note() {
        waiting.withLock { for waiter in $0.values { waiter.yield() } }
    }

    /// Waits until the condition holds. It is looked at now, and after changes.
    ///
    /// - Throws: `CancellationError`, and what the condition throws.
    package func until(_ condition: () async throws -> Bool) async throws {
        let id = lastID.add(1, ordering: .relaxed).newValue
        // Of several changes before the next look, one is enough.
        let (wakes, continuation) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        // Before the first look, so that no change falls between.
        waiting.withLock { $0[id] = continuation }
        defer { waiting.withLock { $0[id] = nil } }
        if try await condition() { return }
        for await _ in wakes where try await condition() { return }
        throw CancellationError()
    }
}
