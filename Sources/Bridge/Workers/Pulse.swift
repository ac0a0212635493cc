/// Whether ComfyUI works on a prompt at all. When its worker thread is dead (protocol section 13), HTTP and socket look
/// healthy, and only time tells: the books stand still. A value; one for each run.
struct Pulse: Sendable {
    enum Doubt: Sendable, Equatable {
        /// Prompts wait, and none runs.
        case nothingRuns
        /// The prompt was taken, and no node of it has begun.
        case neverBegan
        /// No message about the running prompt for so long.
        case silent(Duration)
    }

    struct Limits: Sendable {
        /// For what takes a living ComfyUI no time: to begin the next prompt, and its first node.
        let start: Duration
        /// For a node at work; nil: it may be silent for ever.
        let work: Duration?
    }

    private let limits: Limits
    private var nothingRunsSince: ContinuousClock.Instant?
    private var runningSince: ContinuousClock.Instant?

    init(limits: Limits) { self.limits = limits }

    /// Nothing can be heard for some time: the clocks start anew.
    mutating func lostTouch() {
        nothingRunsSince = nil
        runningSince = nil
    }

    /// - Parameters:
    ///   - silence: how long no message about the prompt has come.
    ///   - mayHaveBegun: a node has begun, or may have.
    mutating func judge(
        _ verdict: Reconciliation, silence: Duration, mayHaveBegun: Bool, at now: ContinuousClock.Instant
    ) -> Doubt? {
        guard case .waiting(isAnythingRunning: false) = verdict else {
            nothingRunsSince = nil
            guard case .running = verdict else {
                runningSince = nil
                return nil
            }
            let since = runningSince ?? now
            runningSince = since
            let still = min(silence, now - since)
            if !mayHaveBegun, still >= limits.start { return .neverBegan }
            if let work = limits.work, still >= work { return .silent(still) }
            return nil
        }
        runningSince = nil
        let since = nothingRunsSince ?? now
        nothingRunsSince = since
        return now - since >= limits.start ? .nothingRuns : nil
    }
}

extension Pulse.Doubt {
    /// Completes "ComfyUI is stuck: …".
    var words: String {
        switch self {
        case .nothingRuns: "prompts wait in its queue and it runs none"
        case .neverBegan: "it took a prompt and does nothing with it"
        case .silent(let duration): "its running prompt has not moved for \(Int(duration.seconds.rounded())) s"
        }
    }
}
