/// Where one request stands between the thread of its connection and the task of its handler. A value without IO; the `Exchange` runs
/// it under its lock and performs what it returns. Suspending and resuming happen *inside* that lock, so that "the state is parked" and "the
/// connection is suspended" are the same statement: the server may be stopped as soon as no state is parked.
///
///     receiving → running ⇄ parked → replied → answered → closed
///
/// plus two ways out: `refused` (there is an answer while the request is still arriving: its head brought it, or the server stops) and `gone` (the client left). The handler of a
/// streamed request runs, and may reply, while the body is still to come:
///
///     receiving → uploading → running → …          the body was there first
///                           → refused → answered   the rest of it is read and thrown away
///                           → declined → answered  it is not read at all
///                           → interrupted → cut    it is cut off
///
/// Generic, so that tests can drive it without sockets.
struct ExchangeMachine<Reply: Sendable, Work: Sendable, Stream: Sendable>: Sendable {
    enum State: Sendable {
        /// Head and body arrive.
        case receiving
        /// A task has it (or will soon, then `Work` is nil) while its body is still to come. The connection may be suspended.
        case uploading(Work?, UploadProgress)
        /// The body arrives still, but there is an answer already. With the progress of a streamed body, which is never suspended here.
        case refused(Reply, UploadProgress?)
        /// As `replied`, with the body not asked for.
        case declined(Reply)
        /// The answer is sent when more of the body comes.
        case interrupted(Reply)
        /// Answered in the middle of the body. The next callback closes the connection.
        case cut
        /// A task has it (or will soon, then `Work` is nil); the access handler has not returned yet.
        case running(Work?)
        /// As `running`, with the connection suspended.
        case parked(Work?)
        /// The reply waits for the access handler to fetch it.
        case replied(Reply)
        /// Queued with libmicrohttpd; with the stream that is its body.
        case answered(Stream?)
        /// The client left before there was a reply. The next callback closes the connection.
        case gone
        case closed
    }

    /// What the access handler does next.
    enum Step {
        /// Give the request to a task: the whole one, or the head of a streamed one.
        case dispatch
        /// Let libmicrohttpd read the body.
        case read
        /// Tell the reader of the body that this was all.
        case complete
        case suspend
        case answer(Reply)
        /// Answer without the body.
        case decline(Reply)
        case close
    }

    /// What the access handler does with a piece of a body.
    enum Receive {
        case take
        case discard
        /// Leave it with libmicrohttpd, which brings it again after the resumption.
        case suspend
        case close
        /// Send this past libmicrohttpd, then close.
        case cut(Reply)
    }

    /// What an input from outside asks for: the sending and the resumption inside the lock, the rest after it.
    struct Effects {
        /// To be sent past libmicrohttpd, which writes nothing in the middle of a body.
        var send: Reply?
        var resume = false
        var cancel: Work?
        var stream: Stream?
        /// A reply that nobody will get; its body has to be closed.
        var discarded: Reply?
        var wasReceiving = false
    }

    private(set) var state = State.receiving

    // MARK: On the thread of the connection

    /// The head alone brought an answer. A body is not read.
    mutating func answer(_ reply: Reply, hasBody: Bool) -> Step {
        switch state {
        case .receiving where !hasBody:
            state = .refused(reply, nil)
            return .read
        case .receiving:
            state = .answered(nil)
            return .decline(reply)
        case .refused(let reply, _):
            state = .answered(nil)
            return .decline(reply)
        case .uploading, .declined, .interrupted, .cut, .running, .parked, .replied, .answered, .gone, .closed: return .close
        }
    }

    /// The head is there, and its handler shall have it before the body.
    mutating func offer(_ upload: UploadProgress) -> Step {
        switch state {
        case .receiving:
            state = .uploading(nil, upload)
            return .dispatch
        case .refused(let reply, _):
            state = .answered(nil)
            return .decline(reply)
        case .uploading, .declined, .interrupted, .cut, .running, .parked, .replied, .answered, .gone, .closed: return .close
        }
    }

    /// The request is complete, or the connection was resumed.
    mutating func proceed() -> Step {
        switch state {
        case .receiving:
            state = .running(nil)
            return .dispatch
        case .uploading(let work, var upload):
            switch upload.stage {
            case .accepted:
                upload.stage = .arriving
                state = .uploading(work, upload)
                return .read
            case .arriving:
                state = .running(work)
                return .complete
            case .offered, .waiting, .paused: return .close
            }
        case .refused(let reply, var upload?) where upload.stage == .accepted:
            upload.stage = .arriving
            state = .refused(reply, upload)
            return .read
        case .replied(let reply), .refused(let reply, _), .interrupted(let reply):
            state = .answered(nil)
            return .answer(reply)
        case .declined(let reply):
            state = .answered(nil)
            return .decline(reply)
        case .cut, .running, .parked, .answered, .gone, .closed: return .close
        }
    }

    /// The access handler has nothing left to do but wait for the reply, or for the reader of the body.
    mutating func park() -> Step {
        switch state {
        case .running(let work):
            state = .parked(work)
            return .suspend
        case .uploading(let work, var upload) where upload.stage == .offered:
            upload.stage = .waiting
            state = .uploading(work, upload)
            return .suspend
        case .uploading, .refused(_, _?), .declined, .replied: return proceed()
        case .receiving, .refused, .interrupted, .cut, .parked, .answered, .gone, .closed: return .close
        }
    }

    /// Some of a body is there.
    ///
    /// - Parameter isFull: the reader of a streamed one has enough.
    mutating func receive(_ count: Int, isFull: Bool) -> Receive {
        switch state {
        case .receiving: return .take
        case .uploading(let work, var upload) where !upload.isSuspended:
            // The last piece is taken in any case: the end of the input may be next to it, and then there is nothing to come back for.
            let isPaused = isFull && count < upload.rest
            upload.received(isPaused ? 0 : count)
            if isPaused { upload.stage = .paused }
            state = .uploading(work, upload)
            return isPaused ? .suspend : .take
        case .refused: return .discard
        case .interrupted(let reply):
            state = .cut
            return .cut(reply)
        case .uploading, .declined, .cut, .running, .parked, .replied, .answered, .gone, .closed: return .close
        }
    }

    /// The reply is about to be queued with this body; or one without a handler, for a request that is not even complete.
    mutating func answered(with stream: Stream?) {
        switch state {
        case .receiving, .refused, .answered: state = .answered(stream)
        case .uploading, .declined, .interrupted, .cut, .running, .parked, .replied, .gone, .closed: break
        }
    }

    /// libmicrohttpd is through with the request, whatever became of it.
    mutating func close() -> Effects {
        defer { state = .closed }
        switch state {
        case .uploading(let work, _), .running(let work), .parked(let work): return Effects(cancel: work)
        case .refused(let reply, _), .declined(let reply), .interrupted(let reply), .replied(let reply): return Effects(discarded: reply)
        case .answered(let stream): return Effects(stream: stream)
        case .receiving, .cut, .gone, .closed: return Effects()
        }
    }

    // MARK: On the task of the handler

    /// - Returns: false if nobody wants the work any more: cancel it.
    mutating func attach(_ work: Work) -> Bool {
        switch state {
        case .uploading(_, let upload):
            state = .uploading(work, upload)
            return true
        case .running:
            state = .running(work)
            return true
        case .parked:
            state = .parked(work)
            return true
        case .receiving, .refused, .declined, .interrupted, .cut, .replied, .answered, .gone, .closed: return false
        }
    }

    /// The reader of a streamed body wants more of it.
    mutating func ask() -> Effects {
        guard case .uploading(let work, var upload) = state else { return Effects() }
        let isSuspended = upload.isSuspended
        upload.ask()
        state = .uploading(work, upload)
        return Effects(resume: isSuspended)
    }

    /// - Parameter isUrgent: see `UploadProgress.fate`.
    mutating func deliver(_ reply: Reply, isUrgent: Bool) -> Effects {
        switch state {
        case .uploading(_, let upload): return end(upload, with: reply, isUrgent: isUrgent)
        case .running:
            state = .replied(reply)
            return Effects()
        case .parked:
            state = .replied(reply)
            return Effects(resume: true)
        case .receiving, .refused, .declined, .interrupted, .cut, .replied, .answered, .gone, .closed: return Effects(discarded: reply)
        }
    }

    private mutating func end(_ upload: UploadProgress, with reply: Reply, isUrgent: Bool) -> Effects {
        var effects = Effects(resume: upload.isSuspended)
        switch upload.fate(isUrgent: isUrgent) {
        case .discard:
            var upload = upload
            upload.ask()
            state = .refused(reply, upload)
        case .decline: state = .declined(reply)
        case .interrupt: state = .interrupted(reply)
        case .cut:
            state = .cut
            effects.send = reply
        }
        return effects
    }

    // MARK: On any thread

    /// The client left.
    mutating func disconnect() -> Effects {
        switch state {
        case .receiving, .cut:
            state = .gone
            return Effects(wasReceiving: true)
        case .refused(let reply, _), .interrupted(let reply):
            state = .gone
            return Effects(discarded: reply, wasReceiving: true)
        case .uploading(let work, let upload):
            state = .gone
            return Effects(resume: upload.isSuspended, cancel: work, wasReceiving: !upload.isSuspended)
        case .running(let work):
            state = .gone
            return Effects(cancel: work)
        case .parked(let work):
            state = .gone
            return Effects(resume: true, cancel: work)
        case .replied(let reply), .declined(let reply):
            state = .gone
            return Effects(discarded: reply)
        case .answered(let stream): return Effects(stream: stream)
        case .gone, .closed: return Effects()
        }
    }

    /// The rest of the body does not come, or too slowly.
    mutating func giveUp(_ reply: @autoclosure () -> Reply) -> Effects {
        switch state {
        case .receiving:
            state = .cut
            return Effects(send: reply(), wasReceiving: true)
        case .uploading(let work, let upload) where upload.stage == .arriving || upload.stage == .accepted:
            state = .cut
            return Effects(send: reply(), cancel: work, wasReceiving: true)
        case .refused(let late, _), .interrupted(let late):
            state = .cut
            return Effects(send: reply(), discarded: late, wasReceiving: true)
        case .cut: return Effects(wasReceiving: true)
        case .uploading, .declined, .running, .parked, .replied, .answered, .gone, .closed: return Effects()
        }
    }

    /// The end of the request, or of the input, is for libmicrohttpd to find: it reads on.
    var isRead: Bool {
        switch state {
        case .receiving, .refused, .interrupted, .cut, .gone: true
        case .uploading(_, let upload): upload.stage == .accepted || upload.stage == .arriving
        case .declined, .running, .parked, .replied, .answered, .closed: false
        }
    }

    /// The client left before there was a reply.
    var isGone: Bool {
        if case .gone = state { true } else { false }
    }

    /// The request is complete, and there is no reply yet.
    var isRunning: Bool {
        if case .running = state { true } else { false }
    }

    /// What the client has to do next.
    var awaited: Patience.Subject {
        switch state {
        case .receiving, .refused, .interrupted, .cut: .body
        case .uploading(_, let upload): upload.stage == .arriving ? .body : .nothing
        case .answered: .answer
        case .declined, .running, .parked, .replied, .gone, .closed: .nothing
        }
    }

    /// The server stops now: what has no reply yet gets this one.
    mutating func stop(_ reply: @autoclosure () -> Reply) -> Effects {
        switch state {
        case .receiving:
            state = .refused(reply(), nil)
            return Effects()
        case .uploading(let work, let upload):
            var effects = end(upload, with: reply(), isUrgent: true)
            effects.cancel = work
            return effects
        case .running(let work):
            state = .replied(reply())
            return Effects(cancel: work)
        case .parked(let work):
            state = .replied(reply())
            return Effects(resume: true, cancel: work)
        case .answered(let stream): return Effects(stream: stream)
        case .refused, .declined, .interrupted, .cut, .replied, .gone, .closed: return Effects()
        }
    }

    /// The server would like to stop: the stream to tell, if there is one.
    var stream: Stream? {
        if case .answered(let stream) = state { stream } else { nil }
    }
}
