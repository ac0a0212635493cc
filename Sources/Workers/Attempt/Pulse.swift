import Wording

/// Whether ComfyUI works on a prompt at all. When its worker thread is dead (protocol section 13), HTTP and socket look
/// healthy, and only time tells: the books stand still. A value; one for each attempt.
struct Pulse: Sendable {
    enum Doubt: Sendable, Equatable {
        /// Prompts wait, and none runs.
        case nothingRuns
        /// The prompt was taken, and no node of it has begun.
        case neverBegan
        /// No message about the running prompt for so long.
        case silent(Duration)
        /// Another prompt, not one of the bridge's, has been running since then.
        case behind(promptID: String, since: ContinuousClock.Instant)
    }

    struct Limits: Sendable {
        /// For what takes a living ComfyUI no time: to begin the next prompt, and its first node.
        let start: Duration
        /// For a node at work, and for a prompt of somebody else, whose messages go to that one only; nil: they may be silent for ever.
        let work: Duration?
    }

    private let limits: Limits
    private var nothingRunsSince: ContinuousClock.Instant?
    private var runningSince: ContinuousClock.Instant?
    /// What runs before the prompt, and since when it was seen there. It is known by its id, so that what happens between two verdicts does not matter.
    private(set) var head: (promptID: String, since: ContinuousClock.Instant)?

    init(limits: Limits) { self.limits = limits }

    /// Nothing can be heard for some time: the clocks start anew.
    mutating func lostTouch() {
        nothingRunsSince = nil
        runningSince = nil
    }

    /// - Parameters:
    ///   - silence: how long no message about the prompt has come.
    ///   - mayHaveBegun: a node has begun, or may have.
    ///   - isBehindOwn: the prompt waits behind one of the bridge's, which is judged by its own attempt.
    mutating func judge(
        _ verdict: Reconciliation, silence: Duration, mayHaveBegun: Bool, isBehindOwn: Bool, at now: ContinuousClock.Instant
    ) -> Doubt? {
        guard case .waiting(behind: nil) = verdict else {
            nothingRunsSince = nil
            guard case .running = verdict else {
                runningSince = nil
                return judge(verdict, isBehindOwn: isBehindOwn, at: now)
            }
            head = nil
            let since = runningSince ?? now
            runningSince = since
            let still = min(silence, now - since)
            if !mayHaveBegun, still >= limits.start { return .neverBegan }
            if let work = limits.work, still >= work { return .silent(still) }
            return nil
        }
        (runningSince, head) = (nil, nil)
        let since = nothingRunsSince ?? now
        nothingRunsSince = since
        return now - since >= limits.start ? .nothingRuns : nil
    }

    /// Behind another prompt.
    private mutating func judge(_ verdict: Reconciliation, isBehindOwn: Bool, at now: ContinuousClock.Instant) -> Doubt? {
        guard case .waiting(behind: let promptID?) = verdict, !isBehindOwn else {
            head = nil
            return nil
        }
        let since = head?.promptID == promptID ? head?.since ?? now : now
        head = (promptID, since)
        guard let work = limits.work, now - since >= work else { return nil }
        return .behind(promptID: promptID, since: since)
    }
}

extension Pulse.Doubt {
    /// What it makes of ComfyUI if it is true.
    ///
    /// - Parameter promptID: that was judged.
    func fault(of promptID: String) -> Rotation.Fault {
        switch self {
        case .nothingRuns: .stuck("prompts wait in its queue and it runs none", promptID: promptID)
        case .neverBegan: .stuck("it took a prompt and does nothing with it", promptID: promptID)
        case .silent(let duration): .stuck("its running prompt has not moved for \(Int(duration.seconds.rounded())) s", promptID: promptID)
        case .behind(let promptID, let since): .behind(promptID: promptID, since: since)
        }
    }
}
