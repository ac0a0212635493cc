import CMicroHTTPD
import Glibc
import Synchronization

/// One TCP connection, from accept to close; the request on it at the moment is its `exchange`.
final class Connection: Sendable {
    /// What holds for every request on this connection from now on.
    struct Conditions: Sendable {
        var isGone = false
        /// The client sends nothing any more.
        var isHalfClosed = false
        var phase = Phase.serving
    }

    enum Phase: Int, Comparable {
        case serving
        /// Finish what is there, then close.
        case draining
        /// Nothing may wait any more.
        case stopping

        static func < (left: Phase, right: Phase) -> Bool { left.rawValue < right.rawValue }
    }

    private struct State {
        var conditions = Conditions()
        var exchange: Exchange?
        var lingers = false
        var patience = Patience(for: .request, at: 0, since: .now)
        /// Of the request whose head is arriving.
        var target: [UInt8] = []
    }

    /// Never used twice in a process, unlike the descriptor.
    let id: UInt64
    let handle: ConnectionHandle
    let descriptor: Int32
    let remoteAddress: String
    /// It is one more than the limit: its request is refused.
    let isSurplus: Bool
    /// The daemon keeps it while there are connections.
    private unowned let reception: Reception
    private let state: Mutex<State>

    init(id: UInt64, handle: ConnectionHandle, phase: Phase, isSurplus: Bool, reception: Reception) {
        self.reception = reception
        self.id = id
        self.handle = handle
        descriptor = handle.descriptor
        remoteAddress = handle.remoteAddress
        self.isSurplus = isSurplus
        state = Mutex(State(conditions: Conditions(phase: phase)))
    }

    var conditions: Conditions { state.withLock { $0.conditions } }

    /// A request line is there, of a request whose head is still to come.
    func targetReceived(_ target: [UInt8]) {
        state.withLock { $0.target = target }
    }

    func takeTarget() -> [UInt8] {
        state.withLock { state in
            defer { state.target = [] }
            return state.target
        }
    }

    /// libmicrohttpd refuses what it reads, in the middle of a head or of a body; it will not call for this request any more.
    ///
    /// - Parameter status: of the answer that it has for it.
    func refusal(_ status: Int) -> Response {
        let exchange = state.withLock { $0.exchange }
        _ = exchange?.disconnect()
        let failure: HTTPServerFailure =
            switch status {
            case 413 where exchange?.bodyLimit != nil: .bodyTooLarge(limit: exchange!.bodyLimit!)
            case 414, 431: .headTooLarge(limit: reception.configuration.maximumHeadSize)
            case 505: .unsupportedVersion
            case 400..<500: .malformed("A line of it cannot be understood: the request line, a header field, the size of a chunk, or a trailer.")
            default: .overloaded
            }
        return reception.failure(failure, nil)
    }

    /// A request begins; whatever happens to the connection from now on reaches it.
    ///
    /// - Returns: what happened before.
    func begin(_ exchange: Exchange) -> Conditions {
        state.withLock {
            $0.exchange = exchange
            $0.patience = Patience(for: .nothing, at: 0, since: .now)
            return $0.conditions
        }
    }

    func end(_ exchange: Exchange) {
        let (received, now) = (handle.tcpState.bytes_received, ContinuousClock.now)
        state.withLock {
            guard $0.exchange === exchange else { return }
            $0.exchange = nil
            $0.patience = Patience(for: .request, at: received, since: now)
        }
    }

    /// The client closed its sending side. That may be all that it closed: nothing tells the two apart before something is sent. Who has said
    /// that this is the last request on the connection waits for the answer; who has not will be understood to have left.
    ///
    /// - Returns: false if it left.
    func finishedSending() -> Bool {
        let exchange = state.withLock {
            $0.conditions.isHalfClosed = true
            return $0.exchange
        }
        return exchange?.isLast ?? true
    }

    /// libmicrohttpd reads on: for a request, or for its rest.
    var isRead: Bool { state.withLock { $0.exchange }?.isRead ?? true }

    /// Everything that the client sent has been read. On the thread of the connection, or in the lock of the reception.
    var isAtEnd: Bool {
        var byte: UInt8 = 0
        return recv(descriptor, &byte, 1, Int32(MSG_PEEK) | Int32(MSG_DONTWAIT)) == 0
    }

    /// libmicrohttpd is about to close the descriptor, whose number may soon be another connection's.
    func closed() { state.withLock { $0.conditions.isGone = true } }

    /// The client left.
    ///
    /// - Returns: whether libmicrohttpd has the connection, idle or in the middle of a request.
    func disconnect() -> Bool {
        let exchange = state.withLock {
            $0.conditions.isGone = true
            return $0.exchange
        }
        return exchange?.disconnect() ?? true
    }

    func enter(_ phase: Phase) {
        let exchange: Exchange? = state.withLock {
            guard $0.conditions.phase < phase else { return nil }
            $0.conditions.phase = phase
            return $0.exchange
        }
        switch phase {
        case .serving: break
        case .draining: exchange?.drain()
        case .stopping: exchange?.stop()
        }
    }

    /// Whether it has kept the server waiting for too long, and if so answers as far as an answer can be given.
    ///
    /// - Returns: the verdict, after which the socket has to be shut down unless it is `.wait`.
    func look(at now: ContinuousClock.Instant, isShort: Bool) -> Patience.Verdict {
        let limits = reception.configuration.patience
        guard let exchange = state.withLock({ $0.exchange }) else {
            let received = handle.tcpState.bytes_received
            return state.withLock { state in
                guard state.exchange == nil, !state.conditions.isGone else { return .wait }
                let verdict = state.patience.look(for: .request, at: received, now: now, limits, isShort: isShort)
                if verdict == .wait { return .wait }
                // In this lock, so that a head that comes to its end right now finds the connection gone.
                state.conditions.isGone = true
                guard verdict == .late else { return verdict }
                state.lingers = true
                RawResponse.send(reception.failure(.requestTimeout, nil), to: descriptor)
                return verdict
            }
        }
        var (subject, count) = (exchange.awaited, exchange.bodyBytes)
        var isSilent = false
        if subject == .answer {
            let tcp = handle.tcpState
            if tcp.unacknowledged == 0, tcp.unsent == 0 { subject = .nothing }
            count = tcp.bytes_acknowledged
            // It does not even say that it has no room: retransmissions and probes go unanswered.
            let silence = Duration.milliseconds(Int(tcp.last_acknowledgement_received))
            isSilent = subject == .answer && (tcp.retransmits > 0 || tcp.probes > 1) && limits.idle > .zero && silence >= reception.configuration.silenceLimit
        }
        let verdict = state.withLock { state -> Patience.Verdict in
            guard state.exchange === exchange else { return .wait }
            return state.patience.look(for: subject, at: count, now: now, limits, isShort: isShort)
        }
        switch isSilent ? .stalled : verdict {
        case .late: return exchange.timeOut() ? .late : .wait
        case .stalled:
            // In the lock, as long as the descriptor is this connection's.
            let isOpen = state.withLock { state in
                guard !state.conditions.isGone, state.exchange === exchange else { return false }
                handle.resetWhenClosed()
                return true
            }
            guard isOpen else { return .wait }
            _ = exchange.disconnect()
            return .stalled
        case .wait, .idle: return .wait
        }
    }

    /// The connection is refused with a part of the request still to come.
    func linger() {
        state.withLock { $0.lingers = true }
    }

    /// Whether closing it now would reset it, see `DisconnectWatch.linger`. The library refuses requests on its own as well, so the socket
    /// is asked, too.
    var lingers: Bool {
        if state.withLock({ $0.lingers }) { return true }
        var byte: UInt8 = 0
        return recv(descriptor, &byte, 1, Int32(MSG_PEEK) | Int32(MSG_DONTWAIT)) > 0
    }
}
