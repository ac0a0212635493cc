package import Logging
import ServiceLifecycle
import Synchronization

/// An HTTP/1.1 server on libmicrohttpd.
///
/// Requests are read on libmicrohttpd's threads. The head of each is shown to `admit`, which answers it or says how its body is to be taken and
/// who responds. That runs in a task each. While it runs, the connection is suspended and costs neither a thread nor a timer; a client that leaves in the meantime is
/// noticed within a second.
///
/// A graceful shutdown (or the cancellation of `run()`) goes like this: streams are asked to `drain`, and every connection is closed
/// behind its answer. New connections are taken, and their requests answered, until the requests from before are through: probes and clients
/// shall hear from the handlers that there is no more work to be had, and a refused connection would only say that something is
/// broken. Then the listening socket is closed. What is still unanswered after `drainTimeout` gets `HTTPServerFailure.shuttingDown`, and
/// streams that are still open are cut; then the threads are joined. Cancellation skips the waiting. `run()` returns when the last
/// handler has, so handlers have to honour cancellation.
package final class HTTPServer: Service {
    /// What exists while the server listens.
    fileprivate struct Parts {
        let daemon: Daemon
        let reception: Reception
        let watch: DisconnectWatch
        let port: UInt16
    }

    private enum State {
        case idle
        case listening(Parts)
        case running(Parts)
        case stopped

        var parts: Parts? {
            switch self {
            case .listening(let parts), .running(let parts): parts
            case .idle, .stopped: nil
            }
        }
    }

    private let configuration: Configuration
    private let logger: Logger
    private let failure: @Sendable (HTTPServerFailure, HTTPHeaders?) -> Response
    private let admit: @Sendable (Request) -> Admission
    private let bodyMemory: BodyMemory
    private let state = Mutex(State.idle)

    /// - Parameters:
    ///   - failure: renders the errors that the server itself finds. Called on the server's threads: must not block. Its body should
    ///     be `.bytes` or `.empty`. It also gets the headers of the request, unless a handler had that already.
    ///   - admit: decides about a request by its head, once: until then nothing is kept of a body. Called on the server's threads: must not
    ///     block. What it lets respond runs in a task of its own on the default executor, which is cancelled when the client goes away
    ///     and when the server stops; what it returns after that is dropped.
    package init(
        configuration: Configuration,
        logger: Logger,
        failure: @escaping @Sendable (HTTPServerFailure, HTTPHeaders?) -> Response,
        admit: @escaping @Sendable (Request) -> Admission
    ) {
        self.configuration = configuration
        self.logger = logger
        self.failure = failure
        self.admit = admit
        bodyMemory = BodyMemory(limit: configuration.bodyMemory, onChange: configuration.onChange)
    }

    /// Binds and listens, unless that was done already. Requests are answered once `run()` is called; until then they wait, as many as
    /// `requestBacklog` says.
    ///
    /// - Returns: the bound port.
    /// - Throws: `HTTPServerError`.
    @discardableResult
    package func start() throws -> UInt16 {
        try state.withLock { state in
            if let parts = state.parts { return parts.port }
            guard case .idle = state else { throw HTTPServerError.alreadyStopped }
            let parts = try open()
            state = .listening(parts)
            return parts.port
        }
    }

    private func open() throws -> Parts {
        let senders = (0..<max(1, configuration.threads)).compactMap { _ in StreamSender() }
        guard let watch = DisconnectWatch(connectionLimit: configuration.connectionLimit), senders.count == max(1, configuration.threads) else {
            throw HTTPServerError.cannotStart("no descriptors left")
        }
        let reception = Reception(
            configuration: configuration, logger: logger, watch: watch, senders: senders, bodyMemory: bodyMemory, failure: failure, admit: admit
        )
        let socket = try ListeningSocket(configuration)
        let daemon = try Daemon(socket, reception: reception)
        let isWatching = watch.start(
            interval: configuration.patience.interval,
            onDisconnect: { reception.disconnected($0, isReset: $1) },
            onFollow: { reception.isFollowed($0) },
            onLook: { reception.look(at: $0) }
        )
        guard isWatching, senders.allSatisfy({ $0.start() }) else {
            throw HTTPServerError.cannotStart("no threads left")
        }
        return Parts(daemon: daemon, reception: reception, watch: watch, port: socket.port)
    }

    /// Serves until graceful shutdown or cancellation. Once per server.
    package func run() async throws {
        try start()
        let parts = try state.withLock { state in
            guard case .listening(let parts) = state else { throw HTTPServerError.alreadyStopped }
            state = .running(parts)
            return parts
        }
        await withDiscardingTaskGroup { group in
            group.addTask { await self.stopWhenAsked(parts) }
            for await job in parts.reception.jobs {
                group.addTask { await job.exchange.run(job.request, job.respond) }
            }
        }
        state.withLock { $0 = .stopped }
    }

    /// The connections that are open now, idle ones included.
    package var openConnections: Int { state.withLock { $0.parts }?.reception.openConnections ?? 0 }

    /// Bytes set aside for bodies at the moment.
    package var bodyMemoryInUse: Int { bodyMemory.used }
    /// The most that ever were.
    package var mostBodyMemoryInUse: Int { bodyMemory.most }

    private func stopWhenAsked(_ parts: Parts) async {
        let isGraceful: Bool
        do {
            try await gracefulShutdown()
            isGraceful = true
        } catch {
            isGraceful = false
        }
        await withTaskCancellationHandler {
            await blocking { parts.shutDown(drainTimeout: isGraceful ? self.configuration.drainTimeout : .zero) }
        } onCancel: {
            parts.reception.enter(.stopping)
        }
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
        state.withLock { $0.parts }?.watch.stop()  // the daemon stops itself
    }
}

extension HTTPServer.Parts {
    /// Blocks until the daemon is stopped.
    fileprivate func shutDown(drainTimeout: Duration) {
        let deadline = ContinuousClock.now + drainTimeout
        reception.enter(.draining)
        _ = reception.waitUntilDrained(drainTimeout)
        daemon.refuseConnections()
        if !reception.waitUntilIdle(max(.zero, deadline - .now)) {
            reception.enter(.stopping)
            // Only what the kernel does not take at once keeps this from being immediate.
            _ = reception.waitUntilIdle(.seconds(1))
        }
        reception.enter(.stopping)
        daemon.stop()
        watch.stop()
        reception.finish()
    }
}
