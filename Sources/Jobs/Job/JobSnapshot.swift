package import FoundationEssentials
package import OrderedJSON

extension Job {
    /// A consistent copy of everything a caller may ask for.
    package struct Snapshot: Sendable {
        package var status: JobStatus
        package var statusChangedAt: Date
        package var startedAt: Date?
        package var completedAt: Date?
        /// How many jobs are before this one in the bridge's queue; nil once it runs.
        package var queuePosition: Int?
        package var progress: JobProgress?
        package var outputs: OutputList = []
        /// At least one of the outputs is an earlier run's, from ComfyUI's cache.
        package var hasReusedOutputs = false
        /// Results that are neither files nor text, by node id, as ComfyUI gave them.
        package var otherOutputs: JSONObject = [:]
        package var error: JobError?
        /// Kept beside the error, which a job that is being canceled does not have yet.
        package var cancellation: Cancellation?
        package var attempts = Attempts()
        /// The address of the ComfyUI that has the job, or is about to be given it; nil while the job waits in the bridge.
        package var assignment: String?

        package init(
            status: JobStatus, statusChangedAt: Date, startedAt: Date? = nil, completedAt: Date? = nil, queuePosition: Int? = nil, progress: JobProgress? = nil, outputs: OutputList = [], hasReusedOutputs: Bool = false, otherOutputs: JSONObject = [:], error: JobError? = nil, cancellation: Cancellation? = nil, attempts: Attempts = Attempts(), assignment: String? = nil
        ) {
            self.status = status
            self.statusChangedAt = statusChangedAt
            self.startedAt = startedAt
            self.completedAt = completedAt
            self.queuePosition = queuePosition
            self.progress = progress
            self.outputs = outputs
            self.hasReusedOutputs = hasReusedOutputs
            self.otherOutputs = otherOutputs
            self.error = error
            self.cancellation = cancellation
            self.attempts = attempts
            self.assignment = assignment
        }
    }

    /// Why a job is to be canceled.
    package enum Cancellation: String, Sendable {
        case requested
        /// Nobody asked for it; the last caller that waited hung up.
        case callerLeft = "caller_left"
    }
}
