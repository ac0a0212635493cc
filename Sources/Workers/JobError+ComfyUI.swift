package import ComfyUI
import Jobs
package import OrderedCollections
package import OrderedJSON
import Wording
import Workflow

/// What ComfyUI says of a job, in the caller's terms.
extension JobError {
    static func badAnswer(status: Int, start: String) -> JobError {
        if let refusal = ComfyUIError.refusal(status: status, page: start) { return JobError(code: .upstreamError, message: "\(refusal).") }
        let words = withoutPaths(PageText.words(start))
        return JobError(
            code: .upstreamError,
            message: "ComfyUI answered the workflow with status \(status) instead of a reason\(words.isEmpty ? "." : ": \(words)\(words.last.map { ".!?…".contains($0) } ?? false ? "" : ".")") "
                + "Usually a value in the workflow has a type that a node cannot take; ComfyUI's own log says which.")
    }

    package init(_ error: InputFileError) {
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
    package init(_ rejection: PromptRejection) {
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
    package init(_ nodeErrors: OrderedDictionary<Name, NodeErrors>) {
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

extension JobError {
    package init(_ error: ExecutionError) {
        let message = withoutPaths(error.exceptionMessage.excerptOfMessage.trimmed)
        let cause = error.exceptionType.isEmpty ? message : "\(error.exceptionType.excerpt): \(message)"
        let place = error.nodeID.map { "\(error.nodeType?.excerpt ?? "A node") (node '\($0.excerpt)') failed: " } ?? ""
        let (code, advice): (Code, String) =
            if error.isOutOfMemory {
                (.outOfMemory, " Its memory was freed and the job run once more, in vain. Use a smaller picture, batch or model.")
            } else if Self.deviceErrorTypes.contains(error.exceptionType) {
                (.deviceError, " Nothing works on this device until ComfyUI is restarted.")
            } else {
                (.nodeExecutionError, "")
            }
        self.init(code: code, message: place + cause + advice, node: error.nodeID?.excerpt, classType: error.nodeType?.excerpt)
    }

    /// After one of these every further call to the device fails, for as long as the process lives.
    private static let deviceErrorTypes: Set<String> = ["torch.AcceleratorError", "torch.cuda.CudaError", "torch.cuda.DeferredCudaCallError"]
}

extension ExecutionError {
    /// As ComfyUI's own `is_oom` decides, as far as the message tells it.
    var isOutOfMemory: Bool {
        // The last part of the class's full name, by PyTorch's version and for the machine's own memory: `torch.OutOfMemoryError`,
        // `torch.cuda.OutOfMemoryError`, `MemoryError`, `numpy._core._exceptions._ArrayMemoryError`.
        if exceptionType.utf8.reversed().starts(with: "MemoryError".utf8.reversed()) { return true }
        // What ComfyUI found to be one it tells so; then it has unloaded its models. It sees the error's code as well.
        if exceptionMessage.utf8.firstRange(of: Self.tip.utf8) != nil { return true }
        // Before PyTorch 2.8 ComfyUI takes every `RuntimeError` for one of the device.
        guard exceptionType == "torch.AcceleratorError" || exceptionType == "RuntimeError" else { return false }
        let text = exceptionMessage.utf8.map { (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains($0) ? $0 | 0x20 : $0 }
        return Self.texts.contains { text.firstRange(of: $0.utf8) != nil }
    }

    private static let tip = "This error means you ran out of memory on your GPU."
    /// "CUDA out of memory. Tried to allocate …", "HIP error: out of memory", "XPU out of memory", "MPS backend out of memory"; and where the word is
    /// another: DirectML, oneAPI (Level Zero), cuBLAS, and PyTorch's allocator for the machine's own memory.
    private static let texts = [
        "out of memory", "not enough gpu video memory", "out_of_device_memory", "out_of_host_memory", "cublas_status_alloc_failed", "defaultcpuallocator: ",
    ]
}
