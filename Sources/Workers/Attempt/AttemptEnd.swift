import Jobs
import Wording

/// How an attempt came to its end.
enum AttemptEnd: Sendable, Equatable {
    case ended(Execution.Ending)
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
    var words: String {
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
    var returnReason: String? {
        if case .notDelivered(let cause) = self { "ComfyUI could not be given the job (\(withoutPaths(cause)))." } else { nil }
    }

    /// ComfyUI had the job, and how it went cannot be found out.
    enum Loss: Sendable, Equatable {
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
