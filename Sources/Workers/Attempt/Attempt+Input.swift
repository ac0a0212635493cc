import ComfyUI
import Jobs
import Workflow

extension Attempt {
    /// Everything that can happen to an attempt. Inputs come in one order, and facts that only the worker knows come with them.
    enum Input: Sendable {
        /// The first one.
        case begin
        /// Messages and binaries of the prompt, and those that name none.
        case message(ComfyMessage)
        case binary(ComfyBinaryMessage)
        /// How the submit went.
        case submitted(Answer)
        /// ComfyUI's books have answered.
        case verdict(Finding)
        /// ComfyUI could not be asked.
        case noVerdict(Absence?)
        /// The socket broke; messages may be missing from here on. The reason is for viewers; nil when the bridge itself closed the socket.
        case lostTouch(reason: String?)
        /// The socket is back.
        case reconnected
        /// ComfyUI has been away for longer than blocked callers wait. Sent again and again. The channel carries it with nil; the worker adds
        /// what holds for the job.
        case away(Absence?)
        /// Nothing was heard of the prompt for a while.
        case silent
        /// ComfyUI has begun another prompt. It runs one after the other: if this one ran, it is over.
        case overtaken
        /// ComfyUI is stuck in another prompt.
        case stuck(Rotation.Fault)
        /// The last message of the prompt has been due for this long.
        case endDue(after: Duration)
        /// The job has run for as long as it may.
        case deadline
        /// The job is to be canceled.
        case cancel
    }

    /// How a submit went.
    enum Answer: Sendable {
        case accepted(partialFaults: WorkflowFaults)
        case refused(JobError)
        /// It is certain that ComfyUI does not have the prompt.
        case notDelivered(reason: String)
        /// The bridge could not even connect to ComfyUI.
        case notReached
        /// ComfyUI has the prompt already, from an earlier attempt of which viewers were told this much.
        case found(Job.Told)
        /// ComfyUI may or may not have the prompt.
        case unknown
    }

    /// A verdict, and what the worker knew when it came.
    struct Finding: Sendable {
        let verdict: Reconciliation
        /// How long nothing was heard of the prompt.
        var silence = Duration.zero
        /// The prompt waits behind one of the bridge's own, which its own attempt judges.
        var isBehindOwn = false
        /// ComfyUI may still take an older connection for alive, and send to that one.
        var isRegistrationDoubtful = false
    }

    /// ComfyUI has been away for longer than blocked callers wait.
    struct Absence: Sendable, Equatable {
        let reason: String
        /// Another ComfyUI can run the job, and retries are left.
        let canRunElsewhere: Bool
        /// Nobody wants the job but blocked callers: it fails instead of letting them hang.
        let failsJob: Bool
    }
}
