/// How the body of a streamed request stands, for `ExchangeMachine`: what is still to come, who waits for whom, and what an early reply may do.
struct UploadProgress: Sendable, Equatable {
    enum Stage: Sendable, Equatable {
        /// Nobody has asked for the body yet; the access handler has not returned.
        case offered
        /// As `offered`, with the connection suspended.
        case waiting
        /// Asked for; the access handler does not know yet.
        case accepted
        case arriving
        /// As `arriving`, with the connection suspended, because the reader has enough.
        case paused
    }

    /// What becomes of the rest of the body when there is a reply before its end.
    enum Rest: Equatable {
        /// It is read and thrown away, then the reply is sent.
        case discard
        /// The reply goes out now instead of the body being asked for, and the connection is closed.
        case decline
        /// The reply goes straight into the socket, and the connection is closed.
        case cut
        /// As `cut` with the next bytes that come: until then libmicrohttpd may be writing its `100 Continue`.
        case interrupt
    }

    /// So much is read to its end for the sake of the connection, rather than closing it.
    static let small = 256 * 1024

    /// Bytes that are still to come, `Int.max` if the client did not say.
    private(set) var rest: Int
    /// The client waits for `100 Continue`, or it is being written.
    private(set) var awaitsContinue: Bool
    var stage = Stage.offered

    init(rest: Int, awaitsContinue: Bool) {
        self.rest = rest
        self.awaitsContinue = awaitsContinue
    }

    var isSuspended: Bool { stage == .waiting || stage == .paused }

    /// The reader wants more.
    mutating func ask() {
        switch stage {
        case .offered, .waiting: stage = .accepted
        case .paused: stage = .arriving
        case .accepted, .arriving: break
        }
    }

    mutating func received(_ count: Int) {
        stage = .arriving
        awaitsContinue = false
        if rest < .max { rest -= count }
    }

    /// - Parameter isUrgent: the reply is an error, which is worth a connection, and can be sent without libmicrohttpd.
    func fate(isUrgent: Bool) -> Rest {
        let isCheap = rest <= Self.small || !isUrgent
        return switch stage {
        case .offered, .waiting, .accepted: isCheap && !awaitsContinue ? .discard : .decline
        case .arriving, .paused: isCheap ? .discard : awaitsContinue ? .interrupt : .cut
        }
    }
}
