/// What is to become of a prompt inside ComfyUI, and how sure that is.
enum Aim: Sendable {
    typealias Instant = ContinuousClock.Instant

    /// Why ComfyUI may be stuck.
    struct Doubt: Sendable {
        let fault: Rotation.Fault
        /// It is this prompt in which ComfyUI hangs, or none.
        let isOwn: Bool
        let since: Instant
    }

    case finish
    /// ComfyUI is stuck in a prompt of somebody else. This one leaves the queue, and nothing is interrupted.
    case leave(behind: String, since: Instant, lastTry: Instant?)
    /// ComfyUI is told to give the prompt up, to find out whether it is stuck. The job may run again.
    case test(Doubt)
    /// ComfyUI is told to give the prompt up, since the job is canceled or has failed.
    case takeBack(Doubt?)

    var doubt: Doubt? {
        switch self {
        case .finish, .leave: nil
        case .test(let doubt): doubt
        case .takeBack(let doubt): doubt
        }
    }

    /// ComfyUI is told to give the prompt up.
    var isGivenUp: Bool {
        switch self {
        case .finish, .leave: false
        case .test, .takeBack: true
        }
    }

    /// The job was canceled or has failed.
    var isSettled: Bool { if case .takeBack = self { true } else { false } }

    mutating func takeBack() {
        switch self {
        case .finish: self = .takeBack(nil)
        case .leave(let promptID, let since, _):
            self = .takeBack(Doubt(fault: .behind(promptID: promptID, since: since), isOwn: false, since: since))
        case .test(let doubt): self = .takeBack(doubt)
        case .takeBack: break
        }
    }

    /// Returns false when there is a doubt already, which stays.
    mutating func suspect(_ doubt: Doubt) -> Bool {
        switch (self, doubt.fault) {
        case (.leave, _), (.test, _), (.takeBack(.some), _): return false
        case (.takeBack(nil), _): self = .takeBack(doubt)
        case (.finish, .behind(let promptID, let since)): self = .leave(behind: promptID, since: since, lastTry: nil)
        case (.finish, .stuck), (.finish, .device): self = .test(doubt)
        }
        return true
    }

    /// The prompt runs: what it waited behind has gone.
    mutating func passedStranger() {
        switch self {
        case .leave: self = .finish
        case .takeBack(let doubt?): if case .behind = doubt.fault { self = .takeBack(nil) }
        case .finish, .test, .takeBack(nil): break
        }
    }

    /// Whether the prompt is to be taken out of the queue now. Not again before the pause is over: a ComfyUI that is stuck may not react.
    mutating func leaves(at now: Instant, pause: Duration) -> Bool {
        guard case .leave(let promptID, let since, let lastTry) = self else { return false }
        if let lastTry, now - lastTry < pause { return false }
        self = .leave(behind: promptID, since: since, lastTry: now)
        return true
    }
}
