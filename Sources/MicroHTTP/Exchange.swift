import Logging
import Synchronization

/// One request and its answer, between the thread of its connection (where libmicrohttpd calls) and the task of its handler.
///
/// libmicrohttpd's slot for the request holds a retain from the first call of the access handler until request-completed.
final class Exchange: Sendable {
    private typealias Machine = ExchangeMachine<Response, Task<Response, Never>, StreamingBody>

    private struct Incoming {
        var head: RequestHead
        var body: [UInt8] = []
        /// What the body will come to, as far as the client has said; no promise that it arrives.
        var expected = 0

        /// Grows by doubling, but not beyond what the client announced, and never on its word alone.
        mutating func append(_ bytes: UnsafeRawBufferPointer) {
            let needed = body.count + bytes.count
            if needed > body.capacity {
                let doubled = max(needed, 2 * body.capacity, 4096)
                body.reserveCapacity(expected >= needed ? min(doubled, expected) : doubled)
            }
            body.append(contentsOf: bytes)
        }
    }

    let connection: Connection
    /// Unowned, because requests that are never taken stay in its queue. The daemon keeps it while callbacks come, `HTTPServer.run()` while
    /// tasks run.
    private unowned let reception: Reception
    private let isHead: Bool
    private let isOldHTTP: Bool
    private let machine = Mutex(Machine())
    /// Gone once the request has been handed to its task.
    private let incoming: Mutex<Incoming?>

    init(_ head: RequestHead, on connection: Connection, reception: Reception) {
        self.connection = connection
        self.reception = reception
        isHead = head.method == "HEAD"
        isOldHTTP = head.version == "HTTP/1.0"
        incoming = Mutex(Incoming(head: head))
    }

    // MARK: On the thread of the connection

    /// The head is there. An answer queued here closes the connection afterwards and leaves the body unread, with no `100 Continue` sent, so
    /// it is for refusals only.
    ///
    /// - Returns: false to close the connection at once, here and below.
    func headReceived() -> Bool {
        let before = connection.begin(self)
        if before.isGone { _ = disconnect() }
        if before.phase == .stopping { stop() }
        let framing = incoming.withLock { $0?.head.framing ?? .length(0) }
        switch framing {
        case .malformed(let reason): return refuse(.malformed(reason))
        case .length(let count) where count > reception.configuration.maximumBodySize:
            return refuse(.bodyTooLarge(limit: reception.configuration.maximumBodySize))
        case .length(let count):
            incoming.withLock { $0?.expected = count }
            return true
        case .chunked: return true
        }
    }

    private func refuse(_ failure: HTTPServerFailure) -> Bool {
        connection.linger()
        return queue(reception.failure(failure))
    }

    /// A part of the body is there.
    func bodyReceived(_ bytes: UnsafeRawBufferPointer) -> Bool {
        let limit = reception.configuration.maximumBodySize
        let isTaken = incoming.withLock { incoming in
            guard incoming != nil, incoming!.body.count + bytes.count <= limit else { return false }
            incoming!.append(bytes)
            return true
        }
        if isTaken { return true }
        // libmicrohttpd takes no answer in the middle of an upload, and closes the connection when told to. Nothing else is being written
        // at this moment, so the answer goes straight into the socket.
        incoming.withLock { $0 = nil }
        connection.linger()
        RawResponse.send(reception.failure(.bodyTooLarge(limit: limit)), to: connection.descriptor)
        return false
    }

    /// The request is complete, or the connection was resumed because there is something to do.
    func proceed() -> Bool {
        switch machine.withLock({ $0.proceed() }) {
        case .answer(let response): return queue(response)
        case .close: return false
        case .dispatch:
            guard let incoming = incoming.withLock({ $0.take() }) else { return false }
            let request = Request(
                method: incoming.head.method,
                path: incoming.head.path,
                query: incoming.head.query,
                headers: incoming.head.headers,
                body: incoming.body,
                remoteAddress: connection.remoteAddress
            )
            if let failure = reception.dispatch(self, request) { deliver(reception.failure(failure)) }
            return wait()
        }
    }

    private func wait() -> Bool {
        let park = machine.withLock { machine in
            let park = machine.park()
            if case .suspend = park { connection.handle.suspend() }
            return park
        }
        return switch park {
        case .suspend: true
        case .answer(let response): queue(response)
        case .close: false
        }
    }

    private func queue(_ response: Response) -> Bool {
        var stream: StreamingBody?
        if case .stream(let source, let length) = response.body {
            stream = StreamingBody(source, length: length, connection: connection.handle)
        }
        machine.withLock { $0.answered(with: stream) }
        let conditions = connection.conditions
        if let stream {
            stream.attach()
            if conditions.isGone { stream.cut(.disconnected) }
            if conditions.phase >= .draining { stream.drain() }
            if conditions.phase == .stopping { stream.cut(.stopped) }
        }
        let status = (200...999).contains(response.status) ? response.status : 500
        guard let handle = makeHandle(for: response, status: status, stream: stream) else {
            reception.logger.warning("no memory or no descriptor for a response, connection closed")
            return false
        }
        for (name, value) in response.headers.forTheWire { handle.add(name: name, value: value) }
        if conditions.phase >= .draining { handle.add(name: "Connection", value: "close") }
        return connection.handle.queue(status: status, handle)
    }

    private func makeHandle(for response: Response, status: Int, stream: StreamingBody?) -> ResponseHandle? {
        switch response.body {
        case .empty: .bytes([])
        case .bytes(let bytes): .bytes(bytes)
        case .file(let file): .file(file)
        case .stream(_, length: nil) where status == 204 || status == 304: .bytes([])
        case .stream(_, length: nil) where isHead: .headOfStream(stream!)
        case .stream(_, let length): .stream(stream!, length: length, isChunked: !isOldHTTP)
        }
    }

    /// The last call for this request.
    func completed(_ end: BodyEnd) {
        let effects = machine.withLock { $0.close() }
        connection.end(self)
        effects.cancel?.cancel()
        effects.stream?.close(end)
        effects.discarded?.discard(end == .stopped ? .stopped : .disconnected)
    }

    // MARK: On the task of the handler

    /// Runs the handler in a task of its own, so that it can be cancelled when the client leaves, and delivers what it answers.
    func run(_ request: Request) async {
        let work = Task { await reception.respond(request) }
        if !machine.withLock({ $0.attach(work) }) { work.cancel() }
        let response = await withTaskCancellationHandler {
            await work.value
        } onCancel: {
            work.cancel()
        }
        deliver(response)
    }

    private func deliver(_ response: Response) {
        perform { $0.deliver(response) }
    }

    // MARK: On any thread

    /// - Returns: whether the request was still arriving, so that libmicrohttpd has the connection and waits for the rest.
    func disconnect() -> Bool {
        let effects = perform { $0.disconnect() }
        effects.stream?.cut(.disconnected)
        return effects.wasReceiving
    }

    func drain() {
        machine.withLock { $0.stream }?.drain()
    }

    func stop() {
        let reply = reception.failure(.shuttingDown)
        perform { $0.stop(reply) }.stream?.cut(.stopped)
    }

    @discardableResult
    private func perform(_ input: (inout Machine) -> Machine.Effects) -> Machine.Effects {
        let effects = machine.withLock { machine in
            let effects = input(&machine)
            if effects.resume { connection.handle.resume() }
            return effects
        }
        effects.cancel?.cancel()
        effects.discarded?.discard(.disconnected)
        return effects
    }
}

extension Response {
    /// For a response that is never sent.
    fileprivate func discard(_ reason: BodyEnd) {
        if case .stream(let source, _) = body { source.closed(reason) }
    }
}
