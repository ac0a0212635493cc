package import Jobs
import Wording

/// How following a run came to its end.
package enum RunEnd: Sendable, Equatable {
    case ended(Run.Ending)
    /// ComfyUI does not want it.
    case refused(JobError)
    /// It was taken back before its end.
    case takenBack
    /// ComfyUI never had it.
    case notDelivered(reason: String)
    /// Nobody listens where ComfyUI should be, whatever its socket looks like; it was sent nothing.
    case notReached
    case lost(Loss)
    /// ComfyUI works no more: on this job, or on what came before it.
    case stuck(reason: String, wasRunning: Bool)
    /// The same, in a prompt that is not the bridge's and has been running since then. The job waited behind it, and was taken out of the queue.
    case behind(promptID: String, since: ContinuousClock.Instant)
    /// The bridge stops.
    case stopped

    /// For the log.
    package var words: String {
        switch self {
        case .ended(.succeeded): "it succeeded"
        case .ended(.failed(let error)), .refused(let error): "\(error.code.rawValue): \(error.message)"
        case .ended(.interrupted): "it was interrupted in ComfyUI"
        case .takenBack: "it was taken back"
        case .notDelivered(let reason): "ComfyUI could not be given it: \(reason)"
        case .notReached: "ComfyUI cannot be reached"
        case .lost(.waiting): "ComfyUI lost it before it began"
        case .lost(.running): "ComfyUI lost it while it ran"
        case .lost(.killed): "ComfyUI went down while it ran"
        case .lost(.unreachable): "ComfyUI has been away for too long"
        case .lost(.results): "results that only the socket carries were missed"
        case .lost(.stalled): "it did not move, and was interrupted"
        case .stuck(let reason, let wasRunning): "ComfyUI is stuck \(wasRunning ? "in it" : "before it"): \(reason)"
        case .behind(let promptID, _): "ComfyUI is stuck in a prompt that is not the bridge's: \(promptID)"
        case .stopped: "the bridge stops"
        }
    }

    /// Why the job waits again, where the end itself says it best; nil where the note of the conclusion does.
    package var returnReason: String? {
        if case .notDelivered(let cause) = self { "ComfyUI could not be given the job (\(withoutPaths(cause)))." } else { nil }
    }

    /// ComfyUI had the job, and how it went cannot be found out.
    package enum Loss: Sendable, Equatable {
        /// It had not begun: ComfyUI was restarted, or somebody deleted it.
        case waiting
        /// It had begun, and ComfyUI has forgotten it.
        case running
        /// ComfyUI went down while it ran.
        case killed
        /// ComfyUI has been away for longer than callers wait, and nobody waits for its return: the job is over, or another one runs it.
        case unreachable
        /// It is over, and results that only the socket carries were missed.
        case results
        /// It did not move, and could be interrupted.
        case stalled
    }
}

/// What becomes of a job when following a run of it has come to an end.
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
    ///   - attempts: with this run counted.
    ///   - hasOther: another ComfyUI is there that can run the job.
    ///   - failure: why there is nothing to show for a success.
    init(of end: RunEnd, status: JobStatus, attempts: Attempts, retries: Int, hasOther: Bool, failure: JobError? = nil) {
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
            self = Self.waiting(Rotation.Fault.behind(promptID: promptID, since: since).cause(at: .now), mayDeliverAgain)
        }
    }

    private static func waiting(_ reason: String, _ mayDeliverAgain: Bool) -> Conclusion {
        mayDeliverAgain ? .again(note: "ComfyUI is stuck (\(reason)); the job waits for a ComfyUI that works.") : .end(.failed, .stuck(reason))
    }
}
