/// Where a streamed body stands between the thread of its connection, which reads, and everybody who may wake it. As with `ExchangeMachine`,
/// suspending and resuming happen inside the lock, so a wake-up cannot fall between the two.
struct SizedBodyMachine: Sendable {
    enum State: Sendable, Equatable {
        /// The server's thread is, or may be, reading. `woken`: since the source was last asked.
        case reading(woken: Bool)
        /// The source had nothing, and the connection is suspended.
        case parked
        /// Cut by us; the reader learns it when it next looks.
        case cut(BodyEnd)
        case closed
    }

    enum Pending: Equatable {
        case suspend
        /// Woken since: suspend and resume at once, which lets the thread serve its other connections in between.
        case retry
        case cut
    }

    private(set) var state = State.reading(woken: false)

    /// Before the source is asked.
    ///
    /// - Returns: false if the body has been cut.
    mutating func beginRead() -> Bool {
        switch state {
        case .reading, .parked:
            state = .reading(woken: false)
            return true
        case .cut, .closed: return false
        }
    }

    /// The source had nothing, and there is nothing else to send.
    mutating func pending() -> Pending {
        switch state {
        case .reading(woken: false), .parked:
            state = .parked
            return .suspend
        case .reading(woken: true):
            state = .reading(woken: false)
            return .retry
        case .cut, .closed: return .cut
        }
    }

    /// - Returns: whether to resume the connection.
    mutating func wake() -> Bool {
        switch state {
        case .reading:
            state = .reading(woken: true)
            return false
        case .parked:
            state = .reading(woken: true)
            return true
        case .cut, .closed: return false
        }
    }

    /// - Returns: whether to resume the connection.
    mutating func cut(_ reason: BodyEnd) -> Bool {
        switch state {
        case .reading:
            state = .cut(reason)
            return false
        case .parked:
            state = .cut(reason)
            return true
        case .cut, .closed: return false
        }
    }

    /// - Parameter natural: how libmicrohttpd says the request ended.
    /// - Returns: what to tell the source; nil the second time.
    mutating func close(_ natural: BodyEnd) -> BodyEnd? {
        defer { state = .closed }
        switch state {
        case .reading, .parked: return natural
        case .cut(let reason): return natural == .completed ? .completed : reason
        case .closed: return nil
        }
    }
}
