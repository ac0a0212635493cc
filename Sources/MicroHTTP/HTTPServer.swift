package import Logging
import ServiceLifecycle
import Synchronization

/// An HTTP/1.1 server on libmicrohttpd.
///
/// Requests are read on libmicrohttpd's threads and handed, complete, to `respond`, which runs in a task each. While it runs, the
/// connection is suspended and costs neither a thread nor a timer; a client that leaves in the meantime is noticed within a second.
///
/// A graceful shutdown (or the cancellation of `run()`) goes like this: no new connections; streams are asked to `drain`; what is still
/// unanswered after `drainTimeout` gets `HTTPServerFailure.shuttingDown`, and streams that are still open are cut; then the threads are joined.
/// Cancellation skips the waiting. `run()` returns when the last handler has, so handlers have to honour cancellation.
package final class HTTPServer: Service {
    private enum State {
        case idle
        case listening(Daemon, port: UInt16)
        case running(Daemon, port: UInt16)
        case stopped
    }

    private let reception: Reception?
    private let watch: DisconnectWatch?
    private let configuration: Configuration
    private let state = Mutex(State.idle)

    /// - Parameters:
    ///   - failure: renders the errors that the server itself finds. Called on the server's threads: must not block. Its body should
    ///     be `.bytes` or `.empty`.
    ///   - respond: answers a request. It runs in a task of its own on the default executor, which is cancelled when the client goes away
    ///     and when the server stops; what it returns after that is dropped.
    package init(
        configuration: Configuration,
        logger: Logger,
        failure: @escaping @Sendable (HTTPServerFailure) -> Response,
        respond: @escaping @Sendable (Request) async -> Response
    ) {
        self.configuration = configuration
        watch = DisconnectWatch()
        reception = watch.map {
            Reception(configuration: configuration, logger: logger, watch: $0, failure: failure, respond: respond)
        }
    }

    /// Binds and listens, unless that was done already. Requests are answered once `run()` is called; until then they wait, as many as
    /// `requestBacklog` says.
    ///
    /// - Returns: the bound port.
    @discardableResult
    package func start() throws -> UInt16 {
        try state.withLock { state in
            switch state {
            case .listening(_, let port), .running(_, let port): return port
            case .stopped: throw HTTPServerError.alreadyStopped
            case .idle:
                guard let watch, let reception else { throw HTTPServerError.cannotStart("no descriptors left") }
                let socket = try ListeningSocket(
                    host: configuration.host, port: configuration.port, backlog: configuration.listenBacklog
                )
                let daemon = try Daemon(socket, reception: reception)
                guard watch.start(onDisconnect: { reception.disconnected($0) }) else {
                    throw HTTPServerError.cannotStart("no threads left")
                }
                state = .listening(daemon, port: socket.port)
                return socket.port
            }
        }
    }

    /// Serves until graceful shutdown or cancellation. Once per server.
    package func run() async throws {
        try start()
        let daemon = try state.withLock { state in
            guard case .listening(let daemon, let port) = state else { throw HTTPServerError.alreadyStopped }
            state = .running(daemon, port: port)
            return daemon
        }
        guard let reception else { return }
        await withDiscardingTaskGroup { group in
            group.addTask { await self.stopWhenAsked(daemon, reception) }
            for await (exchange, request) in reception.jobs {
                group.addTask { await exchange.run(request) }
            }
        }
        state.withLock { $0 = .stopped }
    }

    /// The connections that are open now, idle ones included.
    package var openConnections: Int { reception?.openConnections ?? 0 }

    private func stopWhenAsked(_ daemon: Daemon, _ reception: Reception) async {
        let isGraceful: Bool
        do {
            try await gracefulShutdown()
            isGraceful = true
        } catch {
            isGraceful = false
        }
        await withTaskCancellationHandler {
            await blocking { self.shutDown(daemon, reception, drainTimeout: isGraceful ? self.configuration.drainTimeout : .zero) }
        } onCancel: {
            reception.enter(.stopping)
        }
    }

    /// Blocks until the daemon is stopped.
    private func shutDown(_ daemon: Daemon, _ reception: Reception, drainTimeout: Duration) {
        reception.enter(.draining)
        daemon.refuseConnections()
        if !reception.waitUntilIdle(drainTimeout) {
            reception.enter(.stopping)
            // Only what the kernel does not take at once keeps this from being immediate.
            _ = reception.waitUntilIdle(.seconds(1))
        }
        reception.enter(.stopping)
        daemon.stop()
        watch?.stop()
        reception.finish()
    }

    /// Runs what blocks on a thread of its own, so that the pool for tasks keeps all of its threads.
    private func blocking(_ body: @escaping @Sendable () -> Void) async {
        await withCheckedContinuation { continuation in
            let isStarted = Callbacks.startThread {
                body()
                continuation.resume()
            }
            if !isStarted {
                body()
                continuation.resume()
            }
        }
    }

    deinit {
        watch?.stop()
    }
}
