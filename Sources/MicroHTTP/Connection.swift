import Glibc
import Synchronization

/// One TCP connection, from accept to close; the request on it at the moment is its `exchange`.
final class Connection: Sendable {
    /// What holds for every request on this connection from now on.
    struct Conditions: Sendable {
        var isGone = false
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
    }

    /// Never used twice in a process, unlike the descriptor.
    let id: UInt64
    let handle: ConnectionHandle
    let descriptor: Int32
    let remoteAddress: String
    /// It is one more than the limit: its request is refused.
    let isSurplus: Bool
    private let state: Mutex<State>

    init(id: UInt64, handle: ConnectionHandle, phase: Phase, isSurplus: Bool) {
        self.id = id
        self.handle = handle
        descriptor = handle.descriptor
        remoteAddress = handle.remoteAddress
        self.isSurplus = isSurplus
        state = Mutex(State(conditions: Conditions(phase: phase)))
    }

    var conditions: Conditions { state.withLock { $0.conditions } }

    /// A request begins; whatever happens to the connection from now on reaches it.
    ///
    /// - Returns: what happened before.
    func begin(_ exchange: Exchange) -> Conditions {
        state.withLock {
            $0.exchange = exchange
            return $0.conditions
        }
    }

    func end(_ exchange: Exchange) {
        state.withLock { if $0.exchange === exchange { $0.exchange = nil } }
    }

    /// The client closed its side. Closing only the sending side counts as leaving: libmicrohttpd drops such a connection as well as
    /// soon as it reads again, and nothing tells the two apart before something is sent.
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
