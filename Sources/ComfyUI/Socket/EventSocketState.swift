import NIOCore

/// Which part of its life an `EventSocket` is in. Inputs come from any thread, under the socket's lock; what has to be done comes back as an
/// action and is done after the lock.
struct EventSocketState {
    /// A wait that can be cut short.
    struct Pause: Sendable {
        /// Ends it now.
        let end: @Sendable () -> Void
        /// Ends it as soon as attempts may follow on each other.
        let hurry: @Sendable () -> Void
    }

    enum Action {
        case none
        case close([any Channel])
        case sayGoodbye(FrameLink, reason: String)
        case wake(Pause)
        case hurry(Pause)
    }

    private enum Phase {
        /// Before `run()`, and between an attempt and the pause after it.
        case resting(isHurried: Bool)
        /// All TCP connections that the attempt has made so far: for a name with several addresses there may be more than one.
        case connecting([any Channel])
        /// The handshake is done.
        case open(FrameLink)
        case pausing(Pause, isHurried: Bool)
        case stopped
    }

    private var phase = Phase.resting(isHurried: false)
    /// Somebody began to wait for the connection between an attempt and the pause after it.
    private var isAwaited = false

    /// False: `run()` is over.
    mutating func beginAttempt() -> Bool {
        if case .stopped = phase { return false }
        phase = .connecting([])
        isAwaited = false
        return true
    }

    /// False: close the channel, nobody waits for it any more.
    mutating func adopt(_ channel: any Channel) -> Bool {
        guard case .connecting(let channels) = phase else { return false }
        phase = .connecting(channels + [channel])
        return true
    }

    /// False: say goodbye, nobody waits for it any more.
    mutating func opened(_ link: FrameLink) -> Bool {
        guard case .connecting = phase else { return false }
        phase = .open(link)
        return true
    }

    /// The channels of the current attempt that have not become the connection.
    var unfinished: [any Channel] {
        if case .connecting(let channels) = phase { channels } else { [] }
    }

    mutating func ended() {
        switch phase {
        case .connecting, .open: phase = .resting(isHurried: false)
        case .resting, .pausing, .stopped: break
        }
    }

    enum PauseStart {
        case wait, hurry, stop
        /// The pause is to be as short as one may be.
        case waitShortly
    }

    mutating func beginPause(_ pause: Pause) -> PauseStart {
        switch phase {
        case .resting(isHurried: false):
            phase = .pausing(pause, isHurried: isAwaited)
            return isAwaited ? .waitShortly : .wait
        case .resting(isHurried: true):
            phase = .resting(isHurried: false)
            return .hurry
        case .stopped: return .stop
        case .connecting, .open, .pausing: preconditionFailure("a pause follows the end of an attempt")
        }
    }

    mutating func endPause() {
        if case .pausing = phase { phase = .resting(isHurried: false) }
    }

    mutating func reconnectNow() -> Action {
        switch phase {
        case .resting:
            phase = .resting(isHurried: true)
            return .none
        case .open(let link):
            // The pause comes when the connection has ended.
            phase = .resting(isHurried: true)
            return .sayGoodbye(link, reason: EventSocket.replacement)
        case .pausing(let pause, _):
            phase = .resting(isHurried: false)
            return .wake(pause)
        case .connecting, .stopped: return .none
        }
    }

    mutating func connectNow() -> Action {
        switch phase {
        case .pausing(let pause, isHurried: false):
            phase = .pausing(pause, isHurried: true)
            return .hurry(pause)
        case .resting:
            isAwaited = true
            return .none
        case .connecting, .open, .pausing, .stopped: return .none
        }
    }

    mutating func stop() -> Action {
        defer { phase = .stopped }
        switch phase {
        case .connecting(let channels): return .close(channels)
        case .open(let link): return .sayGoodbye(link, reason: EventSocket.stop)
        case .pausing(let pause, _): return .wake(pause)
        case .resting, .stopped: return .none
        }
    }
}
