import ServiceLifecycle

/// Owns the tasks that outlive the request that began them, such as a download while it is sent: they end with the
/// bridge, not with the handler. As many as there are connections.
package final class BackgroundTasks: Service {
    private let work: AsyncStream<@Sendable () async -> Void>
    private let continuation: AsyncStream<@Sendable () async -> Void>.Continuation

    package init() {
        (work, continuation) = AsyncStream.makeStream()
    }

    package func start(_ body: @escaping @Sendable () async -> Void) {
        continuation.yield(body)
    }

    package func run() async throws {
        await withDiscardingTaskGroup { group in
            for await body in work.cancelOnGracefulShutdown() { group.addTask { await body() } }
        }
    }
}
