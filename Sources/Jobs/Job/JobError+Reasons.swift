import OrderedJSON
import Wording
package import Workflow

/// The wording of everything that can end a job early.
extension JobError {
    package static let canceledByCaller = JobError(code: .canceled, message: "The job was canceled.")
    package static let callerLeft = JobError(
        code: .canceled, message: "The job was canceled because its caller hung up and nobody else waited for it (on_disconnect, see the README).")
    package static let interruptedInComfyUI = JobError(code: .canceled, message: "The run was interrupted in ComfyUI, not through the bridge.")
    package static let lost = JobError(code: .upstreamLost, message: "ComfyUI lost the job, most likely by a restart, and running it again failed too. Submit it again.")
    package static let credentialsLost = JobError(
        code: .credentialsLost,
        message: "The bridge was restarted before the job had run, and credentials (extra_data) are never stored. Submit the job again.")
    package static let unreadable = JobError(
        code: .missingAsset, message: "The bridge was restarted, and what the job needs is not there any more. Submit the job again.")
    package static let lostResults = JobError(
        code: .upstreamLost,
        message: "The run is over, but results that ComfyUI sends over its socket (SaveImageWebsocket) were missed. Submit it again, or save them with SaveImage.")
    package static let stalled = JobError(
        code: .upstreamStuck,
        message: "The job did not move inside ComfyUI and was interrupted. ComfyUI's log may say why; nodes that need longer call for a higher --upstream-stall.")
    package static let tooLarge = JobError(
        code: .payloadTooLarge, message: "ComfyUI refuses a workflow of this size; raise its --max-upload-size or upload large inputs as files.")

    package static func timedOut(after timeout: Duration?) -> JobError {
        let limit = JSON(((timeout?.seconds ?? 0) * 1000).rounded() / 1000).text
        return JobError(code: .timedOut, message: "The job ran longer than its time limit of \(limit) s and was interrupted; raise ?timeout= or --job-timeout.")
    }

    package static func stuck(_ reason: String) -> JobError {
        JobError(code: .upstreamStuck, message: "ComfyUI is stuck: \(reason). Nothing runs there until that has ended or ComfyUI is restarted. Submit the job again then.")
    }

    package static func poison(runs: Int) -> JobError {
        JobError(
            code: .poison,
            message: "ComfyUI went down \(runs) times while it ran exactly this job, so it is not run again. Look for the cause in ComfyUI's log before you submit the workflow again.")
    }

    package static func unreachable(reason: String) -> JobError {
        JobError(code: .upstreamUnreachable, message: "ComfyUI cannot be reached (\(withoutPaths(reason))). Try again later.")
    }

    package static func missingOutput(_ name: String) -> JobError {
        JobError(
            code: .invalidOutput,
            message: "ComfyUI says that it made \(name), but does not have the file (a cached result whose file was deleted?). Change an input, such as the seed, to make it anew.")
    }

    package static func unwritable(_ name: String) -> JobError {
        JobError(
            code: .insufficientStorage,
            message: "\(name) came over ComfyUI's socket and is nowhere else, and the bridge could not write it to its disk (--data-dir). Make room and run the job again.")
    }

    package static func invalid(_ faults: WorkflowFaults) -> JobError {
        JobError(code: .invalidWorkflow, message: faults.first?.message ?? "The workflow is invalid.", faults: faults)
    }

    package static func partiallyInvalid(_ faults: WorkflowFaults) -> JobError {
        JobError(
            code: .invalidWorkflow,
            message: "Some outputs of the workflow are invalid: \(faults.first?.message ?? "") Correct them, or send ?partial=allow to run the others.", faults: faults)
    }
}
