/// Who is there to be told of a job: viewers, who read its events, and waiters, who wait for a status. It says whom a change concerns;
/// `Job` calls them, without its lock.
struct Audience: Sendable {
    struct Waiter: Sendable {
        let isWanted: @Sendable (JobStatus) -> Bool
        /// It is a blocked caller, which `turnAwayCallers` sends away.
        let isCaller: Bool
        let resume: @Sendable () -> Void
    }

    /// Whom a change concerns.
    struct Call: Sendable {
        /// Waiters whose wait is over, and viewers for whom there may be more.
        var calls: [@Sendable () -> Void] = []
        /// A timer to be started: when `companionTime` has passed without more, viewers are told of the progress up to this place in the log.
        var heldBack: UInt64?
    }

    /// How long a progress event waits for what comes with it before viewers are told of it alone. ComfyUI sends the preview of a step
    /// right behind its progress: 93 % of those in the recordings came within 1 ms. Together they are one system call, one wake-up and one
    /// read for each of thousands of viewers instead of two, and the preview does not wait until all have had the progress.
    static let companionTime = Duration.milliseconds(2)

    private var viewers: [UInt64: @Sendable () -> Void] = [:]
    private var waiters: [UInt64: Waiter] = [:]
    private var lastToken: UInt64 = 0
    /// The place in the log of the progress that viewers are not told of yet; nil when they know of everything.
    private var heldBack: UInt64?

    var hasViewers: Bool { !viewers.isEmpty }
    var waiterCount: Int { waiters.count }

    mutating func makeToken() -> UInt64 {
        lastToken += 1
        return lastToken
    }

    mutating func addViewer(_ token: UInt64, wake: @escaping @Sendable () -> Void) { viewers[token] = wake }
    /// - Returns: whether it was there.
    mutating func removeViewer(_ token: UInt64) -> Bool { viewers.removeValue(forKey: token) != nil }

    mutating func addWaiter(_ token: UInt64, _ waiter: Waiter) { waiters[token] = waiter }
    /// Its wait is over, whatever the status.
    mutating func removeWaiter(_ token: UInt64) -> Waiter? { waiters.removeValue(forKey: token) }

    /// Somebody is there to see this status of the job, or any of its events; or it is the end, which is not to be found out again.
    func awaits(_ status: JobStatus) -> Bool {
        !viewers.isEmpty || status.isTerminal || waiters.values.contains { $0.isWanted(status) }
    }

    /// More of the job is visible than before.
    ///
    /// - Parameters:
    ///   - log: as it is now.
    ///   - end: of the log before.
    ///   - status: that is seen from now on; nil when it is the same as before.
    mutating func call(_ log: EventLog, since end: UInt64, _ status: JobStatus?) -> Call {
        var call = Call()
        if log.end != end, !viewers.isEmpty {
            if !log.hasOnlyProgress(after: end) {
                call = callOfViewers()
            } else if heldBack == nil {
                heldBack = log.end
                call.heldBack = heldBack
            }
        }
        if let status { call.calls = satisfied(by: status) + call.calls }
        return call
    }

    /// Nothing came with the progress at this place; or it did, and all have been told.
    mutating func companionTimeIsOver(_ place: UInt64) -> Call { heldBack == place ? callOfViewers() : Call() }

    /// Ends the waiting of blocked callers.
    mutating func turnAwayCallers() -> Call {
        let callers = waiters.filter(\.value.isCaller)
        for token in callers.keys { waiters[token] = nil }
        return Call(calls: callers.values.map(\.resume))
    }

    /// Every viewer, of everything.
    private mutating func callOfViewers() -> Call {
        heldBack = nil
        return Call(calls: Array(viewers.values))
    }

    private mutating func satisfied(by status: JobStatus) -> [@Sendable () -> Void] {
        let satisfied = status.isTerminal ? waiters : waiters.filter { $0.value.isWanted(status) }
        for token in satisfied.keys { waiters[token] = nil }
        return satisfied.values.map(\.resume)
    }
}
