import Dispatch
import Logging
import Synchronization

/// One request and its answer, between the thread of its connection (where libmicrohttpd calls) and the task of its handler.
///
/// libmicrohttpd's slot for the request holds a retain from the first call of the access handler until request-completed.
final class Exchange: Sendable {
    private typealias Machine = ExchangeMachine<Response, Task<Response, Never>, any StreamedBody>

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
    /// Most bytes that the body may have.
    private let bodyLimit: Int
    /// Bytes of a live stream that the kernel may hold unsent.
    private static let unsentLimit: Int32 = 128 * 1024
    /// The handler gets the request without its body.
    private let isStreamed: Bool
    private let form: FormUpload?
    /// Left when the request is through.
    let group: DispatchGroup
    private let machine = Mutex(Machine())
    /// Gone once the request has been handed to its task.
    private let incoming: Mutex<Incoming?>

    init(_ head: RequestHead, on connection: Connection, reception: Reception, group: DispatchGroup) {
        self.connection = connection
        self.group = group
        self.reception = reception
        isHead = head.method == "HEAD"
        isOldHTTP = head.version == "HTTP/1.0"
        let uploadLimit = reception.uploadLimit(head.method, head.path)
        isStreamed = uploadLimit != nil
        bodyLimit = uploadLimit ?? reception.configuration.maximumBodySize
        form = uploadLimit.flatMap { FormUpload(contentType: head.headers["Content-Type"], maximumSize: $0) }
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
        guard let head = incoming.withLock({ $0?.head }) else { return false }
        if connection.isSurplus {
            if head.framing != .length(0) { connection.linger() }
            return queue(failure(.tooManyConnections(limit: reception.configuration.connectionLimit)))
        }
        var rest = Int.max
        switch head.framing {
        case .malformed(let reason): return decline(failure(.malformed(reason)))
        case .length(let count) where count > bodyLimit: return decline(failure(.bodyTooLarge(limit: bodyLimit)))
        case .length(let count): rest = count
        case .chunked: break
        }
        guard isStreamed else {
            incoming.withLock { $0?.expected = rest < .max ? rest : 0 }
            return true
        }
        form?.attach { [weak self] in self?.ask() }
        return perform(machine.withLock { $0.offer(UploadProgress(rest: rest, awaitsContinue: head.expectsContinue)) })
    }

    enum BodyReceipt {
        case taken
        /// It is to come again.
        case left
        case close
    }

    /// A part of the body is there.
    func bodyReceived(_ bytes: UnsafeRawBufferPointer) -> BodyReceipt {
        if isStreamed { return streamReceived(bytes) }
        let isTaken = incoming.withLock { incoming in
            guard incoming != nil, incoming!.body.count + bytes.count <= bodyLimit else { return false }
            incoming!.append(bytes)
            return true
        }
        if isTaken { return .taken }
        interrupt(with: failure(.bodyTooLarge(limit: bodyLimit)))
        incoming.withLock { $0 = nil }
        return .close
    }

    private func streamReceived(_ bytes: UnsafeRawBufferPointer) -> BodyReceipt {
        let receive = machine.withLock { machine in
            // Looked at inside the lock: a reader takes first and asks then, so if this finds the form full, the reader's next question comes
            // after the suspension, and ends it.
            let receive = machine.receive(bytes.count, isFull: form?.isFull ?? true)
            if case .suspend = receive { connection.handle.suspend() }
            return receive
        }
        switch receive {
        case .take:
            form?.receive(bytes)
            return .taken
        case .discard: return .taken
        case .suspend: return .left
        case .close: return .close
        case .cut(let response):
            interrupt(with: response)
            return .close
        }
    }

    /// The answer to a request that gets no task, or whose task is not waited for any longer: then its head is gone.
    private func failure(_ failure: HTTPServerFailure) -> Response {
        reception.failure(failure, incoming.withLock { $0?.head.headers })
    }

    /// libmicrohttpd takes no answer in the middle of a body, only the wish to close the connection. Nothing else is being written at this
    /// moment, so the answer goes straight into the socket.
    private func interrupt(with response: Response) {
        connection.linger()
        RawResponse.send(response, to: connection.descriptor)
    }

    /// The request is complete, or the connection was resumed because there is something to do.
    func proceed() -> Bool {
        perform(machine.withLock { $0.proceed() })
    }

    private func perform(_ step: Machine.Step) -> Bool {
        switch step {
        case .dispatch:
            guard let incoming = incoming.withLock({ $0.take() }) else { return false }
            let request = Request(
                method: incoming.head.method,
                path: incoming.head.path,
                query: incoming.head.query,
                headers: incoming.head.headers,
                body: incoming.body,
                form: form,
                remoteAddress: connection.remoteAddress
            )
            if let failure = reception.dispatch(self, request) { deliver(reception.failure(failure, request.headers)) }
            return wait()
        case .complete:
            form?.finish()
            return wait()
        case .read, .suspend: return true
        case .answer(let response): return queue(response)
        case .decline(let response): return decline(response)
        case .close: return false
        }
    }

    private func wait() -> Bool {
        perform(
            machine.withLock { machine in
                let step = machine.park()
                if case .suspend = step { connection.handle.suspend() }
                return step
            }
        )
    }

    /// Answers before the body was read.
    private func decline(_ response: Response) -> Bool {
        connection.linger()
        return queue(response)
    }

    private func queue(_ response: Response) -> Bool {
        var stream: (any StreamedBody)?
        if case .stream(let source, let length) = response.body {
            if let length {
                stream = StreamingBody(source, length: length, connection: connection.handle)
            } else {
                stream = LiveBody(source, isChunked: !isOldHTTP, connection: connection, sender: reception.sender(for: connection))
            }
            connection.handle.limitUnsent(to: length == nil ? Self.unsentLimit : 0)
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
        if conditions.phase >= .draining || connection.isSurplus { handle.add(name: "Connection", value: "close") }
        return connection.handle.queue(status: status, handle)
    }

    private func makeHandle(for response: Response, status: Int, stream: (any StreamedBody)?) -> ResponseHandle? {
        switch response.body {
        case .empty: .bytes([])
        case .bytes(let bytes): .bytes(bytes)
        case .file(let file): .file(file)
        case .stream(_, length: nil) where status == 204 || status == 304: .bytes([])
        case .stream(_, length: nil) where isHead: .headOfStream(stream!)
        case .stream(_, let length): .stream(stream!, length: length)
        }
    }

    /// The last call for this request.
    func completed(_ end: BodyEnd) {
        let effects = machine.withLock { $0.close() }
        connection.end(self)
        form?.fail(.disconnected)
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
        settle(input { $0.deliver(response, isUrgent: response.status >= 400 && response.isInMemory) })
    }

    /// The reader of the form wants more.
    private func ask() {
        settle(input { $0.ask() })
    }

    // MARK: On any thread

    /// - Returns: whether the request was still arriving, so that libmicrohttpd has the connection and waits for the rest.
    func disconnect() -> Bool {
        let effects = input { $0.disconnect() }
        form?.fail(.disconnected)  // before its task is cancelled
        settle(effects)
        effects.stream?.cut(.disconnected)
        return effects.wasReceiving
    }

    func drain() {
        machine.withLock { $0.stream }?.drain()
    }

    func stop() {
        let reply = failure(.shuttingDown)
        let effects = input { $0.stop(reply) }
        form?.fail(.disconnected)
        settle(effects)
        effects.stream?.cut(.stopped)
    }

    private func input(_ change: (inout Machine) -> Machine.Effects) -> Machine.Effects {
        machine.withLock { machine in
            let effects = change(&machine)
            if let response = effects.send { interrupt(with: response) }
            if effects.resume { connection.handle.resume() }
            return effects
        }
    }

    private func settle(_ effects: Machine.Effects) {
        effects.cancel?.cancel()
        effects.discarded?.discard(.disconnected)
    }
}

extension Response {
    fileprivate var isInMemory: Bool {
        switch body {
        case .empty, .bytes: true
        case .file, .stream: false
        }
    }

    /// For a response that is never sent.
    fileprivate func discard(_ reason: BodyEnd) {
        if case .stream(let source, _) = body { source.closed(reason) }
    }
}
