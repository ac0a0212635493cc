import ServiceLifecycle

/// Runs `body` after every `interval`, until the service group shuts down or the task is cancelled. Both are ordinary ends: the group takes an
/// error out of a service for a failure, `CancellationError` included, and the process would end with it.
package func repeating(every interval: Duration, _ body: @Sendable @escaping () async throws -> Void) async throws {
    do {
        try await cancelWhenGracefulShutdown {
            while true {
                try await Task.sleep(for: interval)
                try await body()
            }
        }
    } catch is CancellationError {}
}
