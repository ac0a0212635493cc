/// Whether ComfyUI still sends to the socket: a connection can be open, answer pings, and not be registered any more (the
/// reconnect trap, protocol section 9).
///
/// Every message that arrives proves it. What has to arrive: the answer to our flags after a connect, from a ComfyUI that
/// is known to answer them, and a `status` after every submit that was accepted, which goes to all registered sockets.
/// A connection on which nothing runs is not asked: ComfyUI has no request that is answered over the socket and changes
/// nothing, nobody waits for a message then, and the next submit asks.
package struct RegistrationProof: Sendable {
    /// The state of the connection before a submit: what arrives after it is the proof, also when it overtakes ComfyUI's answer.
    package struct Ticket: Sendable, Equatable {
        fileprivate let connection: Int
        fileprivate let heard: Int
    }

    package enum Watch: Sendable, Equatable {
        case wait(until: ContinuousClock.Instant)
        /// Nothing is due.
        case rest
        /// What was due has not come: the connection is to be replaced.
        case replace
    }

    private var connection = 0
    private var isConnected = false
    private var heard = 0
    private var answersFlags = false
    /// Since when a message is due.
    private var dueSince: ContinuousClock.Instant?
    private var isWatched = false

    package mutating func connected(at now: ContinuousClock.Instant) {
        connection += 1
        isConnected = true
        heard = 0
        dueSince = answersFlags ? now : nil
    }

    package mutating func disconnected() {
        isConnected = false
        dueSince = nil
    }

    /// A message, text or binary, other than the first `status` of a connection: that one is sent without a look at the register.
    ///
    /// - Parameter isFlags: it is the answer to our flags.
    package mutating func received(isFlags: Bool) {
        heard += 1
        dueSince = nil
        if isFlags { answersFlags = true }
    }

    /// A part of a message has arrived: what is due may wait behind it.
    mutating func receiving(at now: ContinuousClock.Instant) {
        if dueSince != nil { dueSince = now }
    }

    var ticket: Ticket { Ticket(connection: connection, heard: heard) }

    /// ComfyUI has taken a prompt. A refused one changes no queue, so nothing is due for it.
    package mutating func accepted(_ ticket: Ticket, at now: ContinuousClock.Instant) {
        guard isConnected, ticket == self.ticket, dueSince == nil else { return }
        dueSince = now
    }

    /// True when something is due and nobody watches yet: the caller has to.
    mutating func startsWatch() -> Bool {
        guard dueSince != nil, !isWatched else { return false }
        isWatched = true
        return true
    }

    /// What the watch does next; after `rest` and `replace` it is over.
    package mutating func watch(at now: ContinuousClock.Instant, limit: Duration) -> Watch {
        guard let dueSince else {
            isWatched = false
            return .rest
        }
        guard now >= dueSince + limit else { return .wait(until: dueSince + limit) }
        self.dueSince = nil
        isWatched = false
        return .replace
    }
}
