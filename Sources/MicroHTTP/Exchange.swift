import Dispatch
import Logging
import Synchronization

/// One request and its answer, between the thread of its connection (where libmicrohttpd calls) and the task of its handler.
///
/// libmicrohttpd's slot for the request holds a retain from the first call of the access handler until request-completed.
final class Exchange: Sendable {
    private typealias Machine = ExchangeMachine<Response, Task<Response, Never>, any SourceBody>

    /// What the head brought.
    private enum Plan {
        /// Answered past libmicrohttpd, whose memory for the connection may be full, and which may have misunderstood where the request ends.
        case unreadable(Response)
        /// Refused in a way that ends the connection.
        case refused(Response)
        /// Answered without a look at the body.
        case answered(Response)
        case admitted(RequestBody, respond: @Sendable (Request) async -> Response)
    }

    private struct Incoming {
        var head: RequestHead
        var body: [UInt8] = []
        /// Bytes that were reserved for it.
        var capacity = 0
        /// For the body.
        var share: BodyShare?
        /// Bytes that came, kept or not.
        var received = 0
        /// What the body will come to, as far as the client has said; no promise that it arrives.
        var expected = 0

        /// Grows by doubling, but not beyond what the client announced, and never on its word alone.
        ///
        /// - Returns: false if there is no memory for it.
        mutating func append(_ bytes: UnsafeRawBufferPointer) -> Bool {
            let needed = body.count + bytes.count
            if needed > capacity {
                let doubled = max(needed, 2 * capacity, 4096)
                capacity = expected >= needed ? min(doubled, expected) : doubled
                guard share?.grow(to: capacity) ?? false else { return false }
                body.reserveCapacity(capacity)
            }
            body.append(contentsOf: bytes)
            return true
        }

        mutating func drop() {
            body = []
            capacity = 0
            share = nil
        }
    }

    let connection: Connection
    /// Unowned, because requests that are never taken stay in its queue. The daemon keeps it while callbacks come, `HTTPServer.run()` while
    /// tasks run.
    private unowned let reception: Reception
    private let isHead: Bool
    private let isOldHTTP: Bool
    private let plan: Plan
    /// Bytes that the body has, as far as the client said.
    private let length: Int?
    private let awaitsContinue: Bool
    /// libmicrohttpd 0.9.75 takes a bare LF for the end of a chunk's line, and shows those lines to nobody. A proxy that sees another end there
    /// sees other requests behind it (RFC 9112 section 11.2). So the connection ends behind the answer, and what follows is no request.
    private let isChunked: Bool
    /// No request follows on the connection, so a client that has closed its sending side waits for the answer.
    let isLast: Bool
    private let mayStall = Atomic(false)
    /// Whether `wait` has let libmicrohttpd go round once, see there. On the thread of the connection.
    private let hasGoneRound = Atomic(false)
    /// Of the body, so far.
    private let received = Atomic<UInt64>(0)
    /// Bytes of a live stream that the kernel may hold unsent.
    private static let unsentLimit: Int32 = 128 * 1024
    /// Of a body that is streamed.
    private let form: FormUpload?
    /// Left when the request is through.
    let group: DispatchGroup
    private let machine = Mutex(Machine())
    /// Only of a request that is admitted; gone once it has been handed to its task.
    private let incoming: Mutex<Incoming?>

    init(_ head: RequestHead, on connection: Connection, reception: Reception, group: DispatchGroup) {
        self.connection = connection
        self.group = group
        self.reception = reception
        isHead = head.method == "HEAD"
        isOldHTTP = head.version == "HTTP/1.0"
        isLast = head.isLast
        awaitsContinue = head.expectsContinue
        let framing = head.framing
        length = if case .length(let count) = framing { count } else { nil }
        isChunked = framing == .chunked
        let (plan, share) = Self.plan(head, framing, on: connection, reception)
        self.plan = plan
        form =
            if case .admitted(.streamed(let limit), _) = plan {
                FormUpload(contentType: head.headers["Content-Type"], maximumSize: limit, share: share)
            } else {
                nil
            }
        let isAdmitted = if case .admitted = plan { true } else { false }
        incoming = Mutex(isAdmitted ? Incoming(head: head, share: share, expected: length ?? 0) : nil)
    }

    private static func plan(_ head: RequestHead, _ framing: RequestHead.Framing, on connection: Connection, _ reception: Reception) -> (Plan, BodyShare?) {
        func failure(_ failure: HTTPServerFailure) -> Response { reception.failure(failure, head.headers) }
        if connection.isSurplus { return (.refused(failure(.tooManyConnections(limit: reception.configuration.connectionLimit))), nil) }
        if let unreadable = head.failure { return (.unreadable(failure(unreadable)), nil) }
        if case .malformed(let reason) = framing { return (.unreadable(failure(.malformed(reason))), nil) }
        if connection.conditions.phase == .stopping { return (.answered(failure(.shuttingDown)), nil) }
        let request = Request(
            method: head.method, path: head.path, query: head.query, headers: head.headers, remoteAddress: connection.remoteAddress)
        switch reception.admit(request) {
        case .answered(let response): return (.answered(response), nil)
        case .admitted(let body, let respond):
            let length: Int? = if case .length(let count) = framing { count } else { nil }
            if let length, length > body.limit { return (.answered(failure(.bodyTooLarge(limit: body.limit))), nil) }
            let (atOnce, inAll) = body.share(of: length)
            guard let share = BodyShare(atOnce, of: inAll, in: reception.bodyMemory) else {
                return (.answered(failure(.bodiesTooLarge(limit: reception.bodyMemory.limit))), nil)
            }
            return (.admitted(body, respond: respond), share)
        }
    }

    // MARK: On the thread of the connection

    /// The head is there. An answer queued in this call closes the connection afterwards and leaves the body unread, with no `100 Continue` sent.
    ///
    /// - Returns: false to close the connection at once, here and below.
    func headReceived() -> Bool {
        let before = connection.begin(self)
        if before.isGone || (before.isHalfClosed && !isLast) { _ = disconnect() }
        if before.phase == .stopping { stop() }
        switch plan {
        case .unreadable(let response):
            interrupt(with: response)
            return false
        case .refused(let response):
            if length != 0 { connection.linger() }
            return queue(response)
        case .answered(let response): return perform(machine.withLock { $0.answer(response, hasBody: length != 0) })
        case .admitted(.streamed, _):
            form?.attach { [weak self] in self?.ask() }
            var upload = UploadProgress(rest: length ?? .max, awaitsContinue: awaitsContinue)
            // Not suspended until somebody asks: resumed, libmicrohttpd would find the end of the input before the body that it has already, see `wait`.
            if isLast, !awaitsContinue { upload.ask() }
            return perform(machine.withLock { $0.offer(upload) })
        case .admitted: return machine.withLock { !$0.isGone }
        }
    }

    enum BodyReceipt {
        case taken
        /// It is to come again.
        case left
        case close
    }

    /// A part of the body is there.
    func bodyReceived(_ bytes: UnsafeRawBufferPointer) -> BodyReceipt {
        received.add(UInt64(bytes.count), ordering: .relaxed)
        let receive = machine.withLock { machine in
            // Looked at inside the lock: a reader takes first and asks then, so if this finds the form full, the reader's next question comes
            // after the suspension, and ends it.
            let isFull = form?.isFull ?? isStreamed
            let receive = machine.receive(bytes.count, isFull: isFull && !(isLast && connection.isAtEnd))
            if case .suspend = receive { connection.handle.suspend() }
            return receive
        }
        switch receive {
        case .take:
            if let form {
                form.receive(bytes)
                return .taken
            }
            guard let failure = collect(bytes) else { return .taken }
            let response = self.failure(failure)
            incoming.withLock { $0 = nil }  // first, so that who reads this finds the memory free
            interrupt(with: response)
            return .close
        case .discard:
            incoming.withLock { $0?.drop() }
            return .taken
        case .suspend:
            reception.configuration.onChange?()
            return .left
        case .close: return .close
        case .cut(let response):
            interrupt(with: response)
            return .close
        }
    }

    private var isStreamed: Bool { if case .admitted(.streamed, _) = plan { true } else { false } }

    /// - Returns: why it is not taken.
    private func collect(_ bytes: UnsafeRawBufferPointer) -> HTTPServerFailure? {
        guard case .admitted(let body, _) = plan else { return nil }
        return incoming.withLock { incoming in
            guard incoming != nil else { return .shuttingDown }
            incoming!.received += bytes.count
            guard incoming!.received <= body.limit else { return .bodyTooLarge(limit: body.limit) }
            if case .ignored = body { return nil }
            return incoming!.append(bytes) ? nil : .bodiesTooLarge(limit: reception.bodyMemory.limit)
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
        if hasGoneRound.load(ordering: .relaxed), machine.withLock({ $0.isRunning }) { return wait() }
        return perform(machine.withLock { $0.proceed() })
    }

    /// Nothing here holds the body from now on.
    private func takeRequest() -> Request? {
        incoming.withLock { $0.take() }.map { incoming in
            Request(
                method: incoming.head.method,
                path: incoming.head.path,
                query: incoming.head.query,
                headers: incoming.head.headers,
                held: HeldBody(incoming.body, share: form == nil ? incoming.share : nil),
                form: form,
                remoteAddress: connection.remoteAddress
            )
        }
    }

    private func perform(_ step: Machine.Step) -> Bool {
        switch step {
        case .dispatch:
            guard case .admitted(_, let respond) = plan, let request = takeRequest() else { return false }
            if let failure = reception.dispatch(self, request, respond) { deliver(reception.failure(failure, request.headers)) }
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

    /// Before the connection is suspended, libmicrohttpd has to stop wanting to read from it, where the client may have closed its sending side:
    /// resumed, 0.9.75 does first what it wanted before, and closes the connection at the end of the input. It wants to read until the
    /// access handler has returned with the request complete and without an answer; it calls again at once.
    private func wait() -> Bool {
        if isLast, !hasGoneRound.load(ordering: .relaxed), machine.withLock({ $0.isRunning }) {
            hasGoneRound.store(true, ordering: .relaxed)
            return true
        }
        return perform(
            machine.withLock { machine in
                let step = machine.park()
                if case .suspend = step { connection.handle.suspend() }
                return step
            }
        )
    }

    /// Answers before the body was read, and closes the connection: where the next request begins is not known.
    private func decline(_ response: Response) -> Bool {
        connection.linger()
        return queue(response, closes: true)
    }

    private func queue(_ response: Response, closes: Bool = false) -> Bool {
        var stream: (any SourceBody)?
        if case .stream(let source, let length) = response.body {
            if let length {
                stream = SizedBody(source, length: length, connection: connection.handle)
            } else {
                stream = LiveBody(source, isChunked: !isOldHTTP, connection: connection, sender: reception.sender(for: connection))
            }
            connection.handle.limitUnsent(to: length == nil ? Self.unsentLimit : 0)
        }
        if response.canStall { allowStall(true) }
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
        handle.add(response.headers)
        if closes || isChunked || conditions.phase >= .draining || connection.isSurplus { handle.add(name: "Connection", value: "close") }
        return connection.handle.queue(status: status, handle)
    }

    private func makeHandle(for response: Response, status: Int, stream: (any SourceBody)?) -> ResponseHandle? {
        switch response.body {
        case .empty: .bytes([])
        case .bytes(let bytes): .bytes(bytes)
        case .file(let file): .file(file)
        case .stream(_, length: nil) where status == 204 || status == 304: .bytes([])
        case .stream(_, length: nil) where isHead: .headOfStream(stream!)
        case .stream(_, let length): .stream(stream!, length: length)
        }
    }

    /// Lets the client take its time, as far as the kernel is concerned; or no longer.
    private func allowStall(_ allows: Bool) {
        let configuration = reception.configuration
        guard configuration.idleTimeout > .zero, mayStall.exchange(allows, ordering: .relaxed) != allows else { return }
        // `Connection.look` comes first.
        connection.handle.allowStall(of: allows ? (configuration.stallTimeout > .zero ? configuration.stallTimeout * 2 : .zero) : configuration.silenceLimit)
    }

    /// libmicrohttpd has come to the end of the input in the middle of the body, and is about to close the connection.
    private func answerShortBody() {
        let reason = length.map { "Content-Length announces \($0) bytes, and the body ended before." } ?? "The body ended before its last chunk and the empty line behind it."
        let reply = failure(.malformed(reason))
        settle(input { $0.giveUp(reply) })
    }

    /// The last call for this request.
    ///
    /// - Parameter isShort: the input ended within it. Nothing has been closed yet.
    func completed(_ end: BodyEnd, isShort: Bool) {
        allowStall(false)
        if isShort, isLast { answerShortBody() }
        let effects = machine.withLock { $0.close() }
        connection.end(self)
        incoming.withLock { $0 = nil }
        form?.fail(.disconnected)
        effects.cancel?.cancel()
        effects.stream?.close(end)
        effects.discarded?.discard(end == .stopped ? .stopped : .disconnected)
    }

    // MARK: On the task of the handler

    /// Runs the handler in a task of its own, so that it can be cancelled when the client leaves, and delivers what it answers.
    func run(_ request: Request, _ respond: @escaping @Sendable (Request) async -> Response) async {
        let work = Task { await respond(request) }
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

    /// What the client has to do next.
    var awaited: Patience.Subject { machine.withLock { $0.awaited } }

    /// libmicrohttpd reads on for it.
    var isRead: Bool { machine.withLock { $0.isRead } }

    /// Of a body that is taken.
    var bodyLimit: Int? {
        if case .admitted(let body, _) = plan { body.limit } else { nil }
    }

    /// Of the body, so far.
    var bodyBytes: UInt64 { received.load(ordering: .relaxed) }

    /// The body comes too slowly. Answers, if there is still something to be answered.
    ///
    /// - Returns: whether the connection is to be closed.
    func timeOut() -> Bool {
        let reply = failure(.requestTimeout)
        let effects = input { $0.giveUp(reply) }
        guard effects.wasReceiving else { return false }
        form?.fail(.disconnected)
        settle(effects)
        return true
    }

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
        let (effects, isReadAgain) = machine.withLock { machine in
            let wasRead = machine.isRead
            let effects = change(&machine)
            if let response = effects.send { interrupt(with: response) }
            if effects.resume { connection.handle.resume() }
            return (effects, !wasRead && machine.isRead)
        }
        if isReadAgain, connection.conditions.isHalfClosed { reception.follow(connection) }
        return effects
    }

    private func settle(_ effects: Machine.Effects) {
        effects.cancel?.cancel()
        effects.discarded?.discard(.disconnected)
    }
}

extension Response {
    /// It may not fit into the buffers of the kernel.
    fileprivate var canStall: Bool {
        switch body {
        case .empty: false
        case .bytes(let bytes): bytes.count > 64 * 1024
        case .file, .stream: true
        }
    }

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
