import Jobs

/// What becomes of a job when an attempt has come to an end.
enum Conclusion: Sendable, Equatable {
    case end(JobStatus, JobError? = nil)
    /// Back into the queue. The note is for who watches.
    case again(note: String? = nil)
    /// Nothing: the bridge stops, and finds the job again when it is back.
    case leave

    /// How often a job may fail to be handed over before it is given up.
    static let deliveryLimit = 5
    /// With the second time it is the job that does it.
    static let killLimit = 2

    /// - Parameters:
    ///   - status: of the job now; it may be over or have been canceled meanwhile.
    ///   - attempts: with this one counted.
    ///   - hasOther: another ComfyUI is there that can run the job.
    ///   - failure: why there is nothing to show for a success.
    init(
        of end: AttemptEnd, status: JobStatus, attempts: Attempts, retries: Int, hasOther: Bool, failure: JobError? = nil, at now: ContinuousClock.Instant = .now
    ) {
        let mayRunAgain = attempts.lost <= retries
        let mayDeliverAgain = attempts.undelivered < Self.deliveryLimit
        switch end {
        case .stopped: self = .leave
        case _ where status.isTerminal: self = .end(status)
        case _ where status == .canceling, .takenBack: self = .end(.canceled, .canceledByCaller)
        case .ended(.succeeded): self = failure.map { .end(.failed, $0) } ?? .end(.succeeded)
        case .ended(.interrupted): self = .end(.canceled, .interruptedInComfyUI)
        case .ended(.failed(let error)) where error.code == .outOfMemory && attempts.outOfMemory == 1:
            self = .again(note: "ComfyUI ran out of memory; its memory is freed, and the job is run once more.")
        case .ended(.failed(let error)) where error.code == .deviceError && hasOther && attempts.failedDevices.count <= retries:
            self = .again(note: "The device of a ComfyUI failed; the job is run on another one.")
        case .ended(.failed(let error)), .refused(let error): self = .end(.failed, error)
        // It waits, as it does while the socket is known to be away.
        case .notReached: self = .again()
        case .notDelivered(let reason): self = mayDeliverAgain ? .again() : .end(.failed, .unreachable(reason: reason))
        case .lost(.killed) where attempts.kills >= Self.killLimit, .stuck(_, wasRunning: true) where attempts.kills >= Self.killLimit:
            self = .end(.failed, .poison(runs: attempts.kills))
        case .lost(.waiting):
            self = mayDeliverAgain ? .again(note: "ComfyUI lost the job before it ran (restarted?); it is submitted again.") : .end(.failed, .lost)
        case .lost(.results):
            self = mayRunAgain ? .again(note: "Results that ComfyUI sends over its socket were missed; the job is run again.") : .end(.failed, .lostResults)
        case .lost(.stalled):
            self = mayRunAgain ? .again(note: "The job did not move inside ComfyUI and was interrupted; it is run again.") : .end(.failed, .stalled)
        case .lost(.running), .lost(.killed), .lost(.unreachable):
            self = mayRunAgain ? .again(note: "ComfyUI lost the job (restarted?); it is run again.") : .end(.failed, .lost)
        case .stuck(let reason, wasRunning: true):
            self = mayRunAgain && hasOther ? .again(note: "ComfyUI is stuck (\(reason)); the job is run on another one.") : .end(.failed, .stuck(reason))
        case .stuck(let reason, wasRunning: false): self = Self.waiting(reason, mayDeliverAgain)
        case .behind(let promptID, let since):
            self = Self.waiting(Rotation.Fault.behind(promptID: promptID, since: since).cause(at: now), mayDeliverAgain)
        }
    }

    private static func waiting(_ reason: String, _ mayDeliverAgain: Bool) -> Conclusion {
        mayDeliverAgain ? .again(note: "ComfyUI is stuck (\(reason)); the job waits for a ComfyUI that works.") : .end(.failed, .stuck(reason))
    }
}
