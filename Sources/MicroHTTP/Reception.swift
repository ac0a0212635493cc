import Dispatch
import Glibc
import Logging
import Synchronization

/// What the daemon calls, and what outlives it: the open connections, the requests in progress, and the way to the task that runs them.
final class Reception: Sendable {
    typealias Job = (exchange: Exchange, request: Request, respond: @Sendable (Request) async -> Response)

    private struct Table {
        var phase = Connection.Phase.serving
        var connections: [UInt64: Connection] = [:]
    }

    let configuration: HTTPServer.Configuration
    let logger: Logger
    let failure: @Sendable (HTTPServerFailure, HTTPHeaders?) -> Response
    let admit: @Sendable (Request) -> Admission
    let bodyMemory: BodyMemory
    /// Complete requests on their way to a task. Bounded by `requestBacklog`; the newest is refused.
    let jobs: AsyncStream<Job>

    private let continuation: AsyncStream<Job>.Continuation
    private let watch: DisconnectWatch
    private let senders: [StreamSender]
    private let table = Mutex(Table())
    private let lastID = Atomic<UInt64>(0)
    /// Entered by every request, left when libmicrohttpd is through with it.
    private let exchanges = DispatchGroup()
    /// The same for requests that begin when the server is draining: it does not wait for an end of those.
    private let lateExchanges = DispatchGroup()

    init(
        configuration: HTTPServer.Configuration,
        logger: Logger,
        watch: DisconnectWatch,
        senders: [StreamSender],
        bodyMemory: BodyMemory,
        failure: @escaping @Sendable (HTTPServerFailure, HTTPHeaders?) -> Response,
        admit: @escaping @Sendable (Request) -> Admission
    ) {
        self.configuration = configuration
        self.logger = logger
        self.failure = failure
        self.admit = admit
        self.bodyMemory = bodyMemory
        self.watch = watch
        self.senders = senders
        (jobs, continuation) = AsyncStream.makeStream(bufferingPolicy: .bufferingOldest(max(1, configuration.requestBacklog)))
    }

    // MARK: Connections, on their threads

    func opened(_ handle: ConnectionHandle) -> Connection {
        let id = lastID.add(1, ordering: .relaxed).newValue
        let connection = table.withLock {
            let isSurplus = $0.connections.count >= configuration.connectionLimit
            let connection = Connection(id: id, handle: handle, phase: $0.phase, isSurplus: isSurplus, reception: self)
            $0.connections[id] = connection
            return connection
        }
        if !watch.add(connection.descriptor, id: id) {
            logger.warning("a connection cannot be watched, its client may leave unnoticed")
        }
        configuration.onChange?()
        return connection
    }

    /// The descriptor is still open; libmicrohttpd closes it after this.
    func closed(_ connection: Connection) {
        connection.closed()
        watch.remove(connection.descriptor)
        table.withLock { _ = $0.connections.removeValue(forKey: connection.id) }
        configuration.onChange?()
        if connection.lingers { watch.linger(connection.descriptor) }
    }

    /// From the watch: the client of a connection that may have closed by now. The descriptor cannot be another connection's: it is closed
    /// after `closed`.
    func disconnected(_ id: UInt64, isReset: Bool) {
        guard let connection = table.withLock({ $0.connections[id] }) else { return }
        guard !isReset, connection.finishedSending() else {
            if connection.disconnect() { shutDown(connection, SHUT_RDWR) }
            return
        }
        table.withLock { if $0.connections[id] != nil { watch.expectReset(connection.descriptor, id: id) } }
        follow(connection)
    }

    /// The client has closed its sending side, and libmicrohttpd reads. It does not always find the end by itself: when the last bytes and the FIN
    /// come together, 0.9.75 reads the bytes, takes the short read for "nothing more", and its edge-triggered epoll has no second edge to
    /// report. A shutdown makes one, which counts only if it comes when everything has been read: `isFollowed` waits for that.
    func follow(_ connection: Connection) { watch.follow(connection.id) }

    /// From the watch, on the half-closed connections that are read.
    ///
    /// - Returns: whether to ask again.
    func isFollowed(_ id: UInt64) -> Bool {
        // Whoever lets it be read again calls `follow`.
        guard let connection = table.withLock({ $0.connections[id] }), connection.isRead else { return false }
        return table.withLock { table in
            guard table.connections[id] != nil else { return false }
            guard connection.isAtEnd else { return true }
            _ = shutdown(connection.descriptor, Int32(SHUT_RD))
            return false
        }
    }

    private func shutDown(_ connection: Connection, _ sides: Int) {
        table.withLock { if $0.connections[connection.id] != nil { _ = shutdown(connection.descriptor, Int32(sides)) } }
    }

    /// From the watch, from time to time: ends what keeps the server waiting.
    func look(at now: ContinuousClock.Instant) {
        let (connections, isShort) = table.withLock {
            (Array($0.connections.values), $0.connections.count * 10 >= configuration.connectionLimit * 9)
        }
        for connection in connections where connection.look(at: now, isShort: isShort) != .wait { shutDown(connection, SHUT_RDWR) }
    }

    var openConnections: Int { table.withLock { $0.connections.count } }

    /// For what is sent on this connection past libmicrohttpd.
    func sender(for connection: Connection) -> StreamSender { senders[Int(connection.id % UInt64(senders.count))] }

    // MARK: Requests, on the threads of their connections

    func begin(_ head: RequestHead, on connection: Connection) -> Exchange {
        let group = connection.conditions.phase == .serving ? exchanges : lateExchanges
        group.enter()
        return Exchange(head, on: connection, reception: self, group: group)
    }

    /// - Parameter isShort: the input ended within the request.
    func end(_ exchange: Exchange, _ end: BodyEnd, isShort: Bool) {
        exchange.completed(end, isShort: isShort)
        exchange.group.leave()
    }

    /// - Returns: why the request cannot have a task.
    func dispatch(_ exchange: Exchange, _ request: Request, _ respond: @escaping @Sendable (Request) async -> Response) -> HTTPServerFailure? {
        switch continuation.yield((exchange, request, respond)) {
        case .enqueued: nil
        case .dropped: .overloaded
        case .terminated: .shuttingDown
        @unknown default: .overloaded
        }
    }

    func log(_ message: String) {
        logger.debug("libmicrohttpd", metadata: ["message": "\(message.split(whereSeparator: \.isNewline).joined(separator: " "))"])
    }

    // MARK: Stopping

    /// Takes every connection into `phase`, the open ones and those to come. After `.stopping` no connection is suspended or will be, except
    /// those that a sender has, until `stopSending`.
    func enter(_ phase: Connection.Phase) {
        let connections = table.withLock {
            $0.phase = max($0.phase, phase)
            return Array($0.connections.values)
        }
        for connection in connections { connection.enter(phase) }
    }

    /// After `.stopping`: blocks until the senders have let go of their connections.
    func stopSending() {
        for sender in senders { sender.stop() }
    }

    /// Blocks until the requests that began before the server was draining are through.
    ///
    /// - Returns: false when the time is up.
    func waitUntilDrained(_ timeout: Duration) -> Bool {
        exchanges.wait(timeout: .now() + timeout.seconds) == .success
    }

    /// Blocks until no request at all is in progress.
    ///
    /// - Returns: false when the time is up.
    func waitUntilIdle(_ timeout: Duration) -> Bool {
        let start = ContinuousClock.now
        return waitUntilDrained(timeout) && lateExchanges.wait(timeout: .now() + max(.zero, timeout - (.now - start)).seconds) == .success
    }

    /// No more jobs will come.
    func finish() {
        continuation.finish()
    }
}

extension Duration {
    var seconds: Double { Double(components.seconds) + Double(components.attoseconds) / 1e18 }
}
