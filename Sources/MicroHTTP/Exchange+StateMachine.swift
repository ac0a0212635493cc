/// Where one request stands between the thread of its connection and the task of its handler. A value without IO; the `Exchange` runs
/// it under its lock and performs what it returns. Suspending and resuming happen *inside* that lock, so that "the state is parked" and "the
/// connection is suspended" are the same statement: the server may be stopped as soon as no state is parked.
///
///     receiving → running ⇄ parked → replied → answered → closed
///
/// plus two ways out: `refused` (the server stops while the request is still arriving) and `gone` (the client left).
/// Generic, so that tests can drive it without sockets.
struct ExchangeMachine<Reply: Sendable, Work: Sendable, Stream: Sendable>: Sendable {
    enum State: Sendable {
        /// Head and body arrive.
        case receiving
        /// As `receiving`, but will be answered instead of run.
        case refused(Reply)
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

    enum Proceed {
        case dispatch
        case answer(Reply)
        case close
    }

    enum Park {
        case suspend
        case answer(Reply)
        case close
    }

    /// What an input from outside asks for: the resumption inside the lock, the rest after it.
    struct Effects {
        var resume = false
        var cancel: Work?
        var stream: Stream?
        /// A reply that nobody will get; its body has to be closed.
        var discarded: Reply?
        var wasReceiving = false
    }

    private(set) var state = State.receiving

    // MARK: On the thread of the connection

    /// The request is complete, or the connection was resumed.
    mutating func proceed() -> Proceed {
        switch state {
        case .receiving:
            state = .running(nil)
            return .dispatch
        case .replied(let reply), .refused(let reply):
            state = .answered(nil)
            return .answer(reply)
        case .running, .parked, .answered, .gone, .closed: return .close
        }
    }

    /// The access handler has nothing left to do but wait for the reply.
    mutating func park() -> Park {
        switch state {
        case .running(let work):
            state = .parked(work)
            return .suspend
        case .replied(let reply):
            state = .answered(nil)
            return .answer(reply)
        case .receiving, .refused, .parked, .answered, .gone, .closed: return .close
        }
    }

    /// The reply is about to be queued with this body; or one without a handler, for a request that is not even complete.
    mutating func answered(with stream: Stream?) {
        switch state {
        case .receiving, .refused, .answered: state = .answered(stream)
        case .running, .parked, .replied, .gone, .closed: break
        }
    }

    /// libmicrohttpd is through with the request, whatever became of it.
    mutating func close() -> Effects {
        defer { state = .closed }
        switch state {
        case .running(let work), .parked(let work): return Effects(cancel: work)
        case .replied(let reply): return Effects(discarded: reply)
        case .answered(let stream): return Effects(stream: stream)
        case .receiving, .refused, .gone, .closed: return Effects()
        }
    }

    // MARK: On the task of the handler

    /// - Returns: false if nobody wants the work any more: cancel it.
    mutating func attach(_ work: Work) -> Bool {
        switch state {
        case .running:
            state = .running(work)
            return true
        case .parked:
            state = .parked(work)
            return true
        case .receiving, .refused, .replied, .answered, .gone, .closed: return false
        }
    }

    mutating func deliver(_ reply: Reply) -> Effects {
        switch state {
        case .running:
            state = .replied(reply)
            return Effects()
        case .parked:
            state = .replied(reply)
            return Effects(resume: true)
        case .receiving, .refused, .replied, .answered, .gone, .closed: return Effects(discarded: reply)
        }
    }

    // MARK: On any thread

    /// The client left.
    mutating func disconnect() -> Effects {
        switch state {
        case .receiving, .refused:
            state = .gone
            return Effects(wasReceiving: true)
        case .running(let work):
            state = .gone
            return Effects(cancel: work)
        case .parked(let work):
            state = .gone
            return Effects(resume: true, cancel: work)
        case .replied(let reply):
            state = .gone
            return Effects(discarded: reply)
        case .answered(let stream): return Effects(stream: stream)
        case .gone, .closed: return Effects()
        }
    }

    /// The server stops now: what has no reply yet gets this one.
    mutating func stop(_ reply: @autoclosure () -> Reply) -> Effects {
        switch state {
        case .receiving:
            state = .refused(reply())
            return Effects()
        case .running(let work):
            state = .replied(reply())
            return Effects(cancel: work)
        case .parked(let work):
            state = .replied(reply())
            return Effects(resume: true, cancel: work)
        case .answered(let stream): return Effects(stream: stream)
        case .refused, .replied, .gone, .closed: return Effects()
        }
    }

    /// The server would like to stop: the stream to tell, if there is one.
    var stream: Stream? {
        if case .answered(let stream) = state { stream } else { nil }
    }
}
