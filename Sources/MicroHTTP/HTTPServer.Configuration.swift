import FoundationEssentials

extension HTTPServer {
    package struct Configuration: Sendable {
        /// An IPv4 or IPv6 literal, or a name to resolve; of a name's addresses the first that can be bound is taken.
        package var host: String
        /// 0 lets the system choose; `start()` returns the choice.
        package var port: UInt16
        /// Polling threads of libmicrohttpd, and as many that send live bodies. Handlers run on Swift's own pool, not on these.
        package var threads: Int
        /// Open connections over all threads. Of further ones, `spareConnections` are told so with
        /// `HTTPServerFailure.tooManyConnections` and closed; what comes beyond those waits in the kernel's backlog, unanswered.
        package var connectionLimit: Int
        /// Bytes of the buffer of each connection, which holds the request head, read buffer and write buffer. It bounds the
        /// head of a request and is the largest part of what an idle stream costs. Bodies do not go through it.
        package var connectionMemory: Int
        /// A connection on which nothing moves for so long is closed, be it idle between requests, in the middle of a request, or
        /// not reading its response. Waiting for a handler or for a stream's source is not idling. Rounded up to whole seconds; 0 is
        /// for ever.
        package var idleTimeout: Duration
        /// Bytes that the bodies of all requests under way may take; what does not fit is refused with `HTTPServerFailure.bodiesTooLarge`.
        /// A body of known length has its place from its head on, until its handler lets go of it; one that is streamed takes 320 KiB.
        package var bodyMemory: Int
        /// How long a graceful stop waits for handlers and streams before it ends them.
        package var drainTimeout: Duration
        /// Requests that may wait for their task to be created; beyond, `HTTPServerFailure.overloaded`. Tasks are created as fast
        /// as requests arrive, so this fills only when the process cannot keep up at all (or `run()` was not called yet).
        package var requestBacklog: Int
        /// Connections that the kernel completes and keeps until the server accepts them.
        package var listenBacklog: Int32

        /// Connections that are taken only to be refused.
        package static let spareConnections = 64

        package init(
            host: String = "127.0.0.1",
            port: UInt16 = 0,
            threads: Int = Configuration.processorCount,
            connectionLimit: Int = 10_000,
            connectionMemory: Int = 8 * 1024,
            idleTimeout: Duration = .seconds(60),
            bodyMemory: Int = 256 * 1024 * 1024,
            drainTimeout: Duration = .seconds(10),
            requestBacklog: Int = 4096,
            listenBacklog: Int32 = 1024
        ) {
            self.host = host
            self.port = port
            self.threads = threads
            self.connectionLimit = connectionLimit
            self.connectionMemory = connectionMemory
            self.idleTimeout = idleTimeout
            self.bodyMemory = bodyMemory
            self.drainTimeout = drainTimeout
            self.requestBacklog = requestBacklog
            self.listenBacklog = listenBacklog
        }

        /// The processors that this process may use.
        package static var processorCount: Int { ProcessInfo.processInfo.activeProcessorCount }
    }
}
