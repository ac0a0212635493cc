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
        /// Bytes of the buffer of each connection, which holds the request head, read buffer and write buffer. The head of a request may
        /// have half of it. A connection costs as much from its second request on; a new one and a stream only the pages that hold something,
        /// see `Allocator.giveBack`. Above 32 KiB each is a mapping of its own. Bodies do not go through it.
        package var connectionMemory: Int
        /// A connection is closed on which no request has begun for so long. Waiting for a handler or for a stream's source is not idling.
        /// 0 is for ever, here and in the next three.
        package var idleTimeout: Duration
        /// From the first byte of a head to its end; then `HTTPServerFailure.requestTimeout`.
        package var headTimeout: Duration
        /// In each such time, the body of a request has to bring `bodyRate` bytes for each second; else `HTTPServerFailure.requestTimeout`. A body
        /// that nobody asks for (see `FormUpload`) does not have to.
        package var bodyTimeout: Duration
        package var bodyRate: Int
        /// A client that takes nothing at all of its answer for so long is cut off, and one whose network is silent after the idle timeout. Slow
        /// ones have all the time that they need, until nine tenths of `connectionLimit` are in use: then it is the idle timeout, too.
        package var stallTimeout: Duration
        /// Bytes that the bodies of all requests under way may take; what does not fit is refused with `HTTPServerFailure.bodiesTooLarge`.
        /// A body that is collected has its place as it arrives, until its handler lets go of it; one that is streamed takes 320 KiB. A body of
        /// known length is refused on its head if it would not fit then.
        package var bodyMemory: Int
        /// How long a graceful stop waits for handlers and streams before it ends them.
        package var drainTimeout: Duration
        /// Requests that may wait for their task to be created; beyond, `HTTPServerFailure.overloaded`. Tasks are created as fast
        /// as requests arrive, so this fills only when the process cannot keep up at all (or `run()` was not called yet).
        package var requestBacklog: Int
        /// Connections that the kernel completes and keeps until the server accepts them.
        package var listenBacklog: Int32
        /// Called when a connection has come or gone, when the memory of bodies in use has changed, and when a body waits for its reader. For
        /// tests, which then look whether what they wait for is so. On the threads of the server: it must not block.
        package var onChange: (@Sendable () -> Void)?

        var patience: Patience.Limits {
            Patience.Limits(idle: idleTimeout, head: headTimeout, body: bodyTimeout, bodyRate: bodyRate, stall: stallTimeout)
        }

        /// After which a client is gone that does not acknowledge anything.
        var silenceLimit: Duration { max(idleTimeout, .seconds(60)) }

        /// Each takes 64 bytes of the memory of the connection, besides its own. The rest is left for the head of the answer.
        var maximumFieldCount: Int { max(1024, connectionMemory) * 3 / 8 / 64 }

        var maximumHeadSize: Int { max(1024, connectionMemory) / 2 }

        /// Connections that are taken only to be refused.
        package static let spareConnections = 64

        package init(
            host: String = "127.0.0.1",
            port: UInt16 = 0,
            threads: Int = Configuration.processorCount,
            connectionLimit: Int = 10_000,
            connectionMemory: Int = 32 * 1024,
            idleTimeout: Duration = .seconds(60),
            headTimeout: Duration = .seconds(15),
            bodyTimeout: Duration = .seconds(60),
            bodyRate: Int = 500,
            stallTimeout: Duration = .seconds(300),
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
            self.headTimeout = headTimeout
            self.bodyTimeout = bodyTimeout
            self.bodyRate = bodyRate
            self.stallTimeout = stallTimeout
            self.bodyMemory = bodyMemory
            self.drainTimeout = drainTimeout
            self.requestBacklog = requestBacklog
            self.listenBacklog = listenBacklog
        }

        /// The processors that this process may use.
        package static var processorCount: Int { ProcessInfo.processInfo.activeProcessorCount }
    }
}
