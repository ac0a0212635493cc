/// Who has a live body: libmicrohttpd at its beginning and its end, a `StreamSender` or nobody in between, while the connection is suspended.
/// As with `ExchangeMachine`, suspending and resuming happen inside the lock.
///
///     starting → queued → sending → waiting → queued → …
///                                 → full → queued → …
///                                 → ended → closed
struct LiveMachine: Sendable {
    enum State: Sendable, Equatable {
        /// The head is still to be sent.
        case starting
        /// In the sender's queue.
        case queued
        /// Being served. `woken`: since the source was last asked.
        case sending(woken: Bool)
        /// The source had nothing.
        case waiting
        /// The socket takes no more.
        case full
        /// Cut while the sender has it, which will notice.
        case ending(BodyEnd)
        /// libmicrohttpd has the connection again, or always had; what is left to be done is its end.
        case ended(BodyEnd)
        case closed
    }

    enum Pause: Equatable {
        /// Nothing to be done until something happens.
        case rest
        /// Back into the queue.
        case again
        /// Resume the connection.
        case end
    }

    enum Cut: Equatable {
        case nothing
        case resume
        /// As `resume`, and the socket is not watched any more.
        case resumeUnwatched
    }

    private(set) var state = State.starting

    /// libmicrohttpd asks for the body.
    ///
    /// - Returns: the end, if it has come to one; else suspend, and give the body to the sender.
    mutating func begin() -> BodyEnd? {
        switch state {
        case .starting:
            state = .queued
            return nil
        case .ended(let end): return end
        case .queued, .sending, .waiting, .full, .ending, .closed: return .disconnected
        }
    }

    /// - Returns: whether it goes into the sender's queue.
    mutating func wake() -> Bool {
        switch state {
        case .waiting:
            state = .queued
            return true
        case .sending:
            state = .sending(woken: true)
            return false
        case .starting, .queued, .full, .ending, .ended, .closed: return false
        }
    }

    /// The socket takes more.
    ///
    /// - Returns: false if it was cut meanwhile.
    mutating func roomMade() -> Bool {
        guard state == .full else { return false }
        state = .queued
        return true
    }

    /// The sender asks the source, or goes on with what it had.
    ///
    /// - Returns: false if the body has been cut.
    mutating func serve() -> Bool {
        switch state {
        case .queued, .sending:
            state = .sending(woken: false)
            return true
        case .starting, .waiting, .full, .ending, .ended, .closed: return false
        }
    }

    /// The source had nothing.
    mutating func pause() -> Pause {
        switch state {
        case .sending(woken: false):
            state = .waiting
            return .rest
        case .sending(woken: true):
            state = .queued
            return .again
        case .starting, .queued, .waiting, .full, .ending, .ended, .closed: return end(.disconnected)
        }
    }

    /// It had its share, others wait.
    mutating func yield() -> Pause {
        guard case .sending = state else { return end(.disconnected) }
        state = .queued
        return .again
    }

    /// The socket takes no more.
    mutating func fill() -> Pause {
        guard case .sending = state else { return end(.disconnected) }
        state = .full
        return .rest
    }

    /// The sender is through with it.
    mutating func end(_ end: BodyEnd) -> Pause {
        switch state {
        case .ending(let reason): state = .ended(reason)
        case .starting, .queued, .sending, .waiting, .full, .ended, .closed: state = .ended(end)
        }
        return .end
    }

    mutating func cut(_ reason: BodyEnd) -> Cut {
        switch state {
        case .starting:
            state = .ended(reason)
            return .nothing
        case .queued, .sending:
            state = .ending(reason)
            return .nothing
        case .waiting:
            state = .ended(reason)
            return .resume
        case .full:
            state = .ended(reason)
            return .resumeUnwatched
        case .ending, .ended, .closed: return .nothing
        }
    }

    /// - Parameter natural: how libmicrohttpd says the request ended.
    /// - Returns: what to tell the source; nil the second time.
    mutating func close(_ natural: BodyEnd) -> BodyEnd? {
        defer { state = .closed }
        switch state {
        case .ended(let end): return natural == .completed ? .completed : end == .completed ? natural : end
        case .starting, .queued, .sending, .waiting, .full, .ending: return natural
        case .closed: return nil
        }
    }
}
