import Jobs
import NIOCore

extension Attempt {
    /// What the worker has to do, in this order.
    enum Effect: Sendable {
        // MARK: Asked of ComfyUI; each answers with an input

        /// Give ComfyUI the prompt. Answers `submitted`.
        case submit
        /// Ask ComfyUI's books. Answers `verdict` or `noVerdict`.
        case inquire(Metrics.ReconciliationReason)
        /// Take the prompt out of ComfyUI, from its queue or out of execution, again and again. Each round answers `verdict` or `noVerdict`.
        case takeBack
        /// Take the prompt out of ComfyUI's queue, and interrupt nothing. Answers `verdict` or `noVerdict`.
        case withdraw
        /// The socket is open, and ComfyUI does not send to it: open another one.
        case reconnect

        // MARK: Time

        /// Send the input after this time.
        case wait(Duration, then: Input)
        /// Send `silent` whenever nothing was heard of the prompt for a while.
        case watchSilence

        // MARK: For the job

        /// ComfyUI has taken the prompt.
        case delivered
        /// ComfyUI had the prompt before the attempt began.
        case adopted
        case started
        case publish(JobEvent)
        case preview(node: String, contentType: String, image: ByteBuffer)
        case collect(Execution.NodeOutput)
        case capture(node: String, contentType: String, image: ByteBuffer)
        /// Which prompt of somebody else the job waits behind, and since when it was seen there.
        case waits(behind: (promptID: String, since: ContinuousClock.Instant)?)
        /// ComfyUI is done with the prompt. After a success the next one can take its place at once.
        case executed(Execution.Ending)
        case noteAbsence(String)
        case noteReturn
        /// Blocked callers are not to wait any longer; the job is.
        case turnAwayCallers
        /// The job is over, while the prompt may still be inside ComfyUI.
        case fail(JobError)

        // MARK: For the log

        /// ComfyUI seems to be stuck.
        case doubt(reason: String)

        /// Always the last effect of an attempt, and exactly one.
        case end(AttemptEnd)
    }
}
