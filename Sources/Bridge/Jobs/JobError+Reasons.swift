import ComfyUI
import OrderedCollections
import OrderedJSON

/// The wording of everything that can end a job early.
extension JobError {
    static let canceledByCaller = JobError(code: .canceled, message: "The job was canceled.")
    static let callerLeft = JobError(
        code: .canceled, message: "The job was canceled because its caller hung up and nobody else waited for it (on_disconnect, see the README).")
    static let interruptedInComfyUI = JobError(code: .canceled, message: "The run was interrupted in ComfyUI, not through the bridge.")
    static let lost = JobError(code: .upstreamLost, message: "ComfyUI lost the job, most likely by a restart, and running it again failed too. Submit it again.")
    static let credentialsLost = JobError(
        code: .credentialsLost,
        message: "The bridge was restarted before the job had run, and credentials (extra_data) are never stored. Submit the job again.")
    static let unreadable = JobError(
        code: .missingAsset, message: "The bridge was restarted, and what the job needs is not there any more. Submit the job again.")
    static let lostResults = JobError(
        code: .upstreamLost,
        message: "The run is over, but results that ComfyUI sends over its socket (SaveImageWebsocket) were missed. Submit it again, or save them with SaveImage.")
    static let stalled = JobError(
        code: .upstreamStuck,
        message: "The job did not move inside ComfyUI and was interrupted. ComfyUI's log may say why; nodes that need longer call for a higher --upstream-stall.")
    static let tooLarge = JobError(
        code: .payloadTooLarge, message: "ComfyUI refuses a workflow of this size; raise its --max-upload-size or upload large inputs as files.")

    static func timedOut(after timeout: Duration?) -> JobError {
        let limit = JSON(((timeout?.seconds ?? 0) * 1000).rounded() / 1000).text
        return JobError(code: .timedOut, message: "The job ran longer than its time limit of \(limit) s and was interrupted; raise ?timeout= or --job-timeout.")
    }

    static func stuck(_ reason: String) -> JobError {
        JobError(code: .upstreamStuck, message: "ComfyUI is stuck: \(reason). Nothing runs there until that has ended or ComfyUI is restarted. Submit the job again then.")
    }

    static func poison(runs: Int) -> JobError {
        JobError(
            code: .poison,
            message: "ComfyUI went down \(runs) times while it ran exactly this job, so it is not run again. Look for the cause in ComfyUI's log before you submit the workflow again.")
    }

    static func unreachable(reason: String) -> JobError {
        JobError(code: .upstreamUnreachable, message: "ComfyUI cannot be reached (\(withoutPaths(reason))). Try again later.")
    }

    static func badAnswer(status: Int, start: String) -> JobError {
        if let refusal = ComfyUIError.refusal(status: status, page: start) { return JobError(code: .upstreamError, message: "\(refusal).") }
        let words = withoutPaths(PageText.words(start))
        return JobError(
            code: .upstreamError,
            message: "ComfyUI answered the workflow with status \(status) instead of a reason\(words.isEmpty ? "." : ": \(words)\(words.last.map { ".!?…".contains($0) } ?? false ? "" : ".")") "
                + "Usually a value in the workflow has a type that a node cannot take; ComfyUI's own log says which.")
    }

    static func missingOutput(_ name: String) -> JobError {
        JobError(
            code: .invalidOutput,
            message: "ComfyUI says that it made \(name), but does not have the file (a cached result whose file was deleted?). Change an input, such as the seed, to make it anew.")
    }

    static func unwritable(_ name: String) -> JobError {
        JobError(
            code: .insufficientStorage,
            message: "\(name) came over ComfyUI's socket and is nowhere else, and the bridge could not write it to its disk (--data-dir). Make room and run the job again.")
    }

    static func invalid(_ faults: WorkflowFaults) -> JobError {
        JobError(code: .invalidWorkflow, message: faults.first?.message ?? "The workflow is invalid.", faults: faults)
    }

    static func partiallyInvalid(_ faults: WorkflowFaults) -> JobError {
        JobError(
            code: .invalidWorkflow,
            message: "Some outputs of the workflow are invalid: \(faults.first?.message ?? "") Correct them, or send ?partial=allow to run the others.", faults: faults)
    }

    init(_ error: InputFileError) {
        switch error {
        case .gone(let name): self.init(code: .missingAsset, message: "The bytes of \(name), which the workflow reads, are not there any more. Upload it again.")
        case .tooLarge(let name):
            self.init(code: .payloadTooLarge, message: "ComfyUI does not take a file as large as \(name); start it with a higher --max-upload-size.")
        case .unreachable(let reason): self = .unreachable(reason: reason)
        case .unreadable(let reason):
            self.init(code: .upstreamError, message: "A file that the workflow reads could not be brought to ComfyUI: \(withoutPaths(reason))")
        }
    }

    /// A 400 of ComfyUI in the caller's terms.
    init(_ rejection: PromptRejection) {
        var faults = WorkflowFaults(rejection.nodeErrors)
        if faults.isEmpty {
            faults = [
                WorkflowFault(
                    node: rejection.extraInfo["node_id"]?.string, reason: rejection.type, classType: rejection.extraInfo["class_type"]?.string,
                    message: withoutPaths([rejection.message, rejection.details].filter { !$0.isEmpty }.joined(separator: " ")))
            ]
        }
        self.init(code: .invalidWorkflow, message: "ComfyUI rejects the workflow: \(faults[0].message)", faults: faults)
    }
}

extension WorkflowFaults {
    init(_ nodeErrors: OrderedDictionary<Name, NodeErrors>) {
        self.init()
        for (node, errors) in nodeErrors {
            for error in errors.errors { append(WorkflowFault(node: node.text, errors.classType, error)) }
        }
    }
}

extension WorkflowFault {
    fileprivate init(node: String, _ classType: String?, _ error: NodeError) {
        let whole = [error.message, error.details].filter { !$0.isEmpty }.joined(separator: ": ")
        var text = whole.excerptOfMessage
        if text.utf8.last != UInt8(ascii: ".") { text += "." }
        // `[custom_validation_failed] Custom validation failed for node: image - Invalid image file: iVBORw0KGgo…`
        if text.utf8.count < whole.utf8.count, error.type == "custom_validation_failed" {
            text += " If that is the content of a file, upload it with POST /api/v2/assets and write its file_path instead."
        }
        self.init(
            node: node, field: error.inputName, reason: error.type, classType: classType,
            message: "Node '\(node.excerpt)' (\(classType?.excerpt ?? "unknown class")): \(withoutPaths(text))")
    }
}
