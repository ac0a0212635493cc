import ComfyUI
import Jobs
import OrderedCollections
import OrderedJSON

/// What ComfyUI's books say about a prompt, whatever its events said or failed to say (protocol section 10).
enum Reconciliation: Sendable {
    /// `behind`: the prompt that runs; nil when none does.
    case waiting(behind: String?)
    case running
    case finished(outputs: [Execution.NodeOutput], Execution.Ending)
    /// In neither: deleted by somebody, or lost with a restart.
    case absent
    /// Not in the queue, and in the history is something that cannot be read.
    case unreadable

    var isRunning: Bool { if case .running = self { true } else { false } }

    /// - Parameters:
    ///   - queue: read *before* `history`; the other way round a prompt that finishes in between looks lost.
    ///   - history: the prompt's entry; nil when there is none.
    init(of promptID: String, queue: QueueSnapshot, history: HistoryEntry?) {
        if let history {
            let cached = history.cachedNodes
            let outputs = history.outputs.compactMap { node, output -> Execution.NodeOutput? in
                guard let output = output.object, !output.isEmpty else { return nil }
                return Execution.NodeOutput(node: history.displayNodes[node] ?? node, part: node, output: output, isReused: cached.contains(node))
            }
            switch history.outcome {
            case .succeeded: self = .finished(outputs: outputs, .succeeded)
            case .failed(let error): self = .finished(outputs: outputs, .failed(JobError(error)))
            case .interrupted: self = .finished(outputs: outputs, .interrupted)
            }
        } else if queue.running.contains(where: { $0.promptID == promptID }) {
            self = .running
        } else if queue.pending.contains(where: { $0.promptID == promptID }) {
            self = .waiting(behind: queue.running.first?.promptID)
        } else {
            self = .absent
        }
    }
}

extension HistoryEntry {
    /// The nodes that ComfyUI took from its cache.
    fileprivate var cachedNodes: Set<Name> {
        messages.reduce(into: []) { nodes, message in
            if case .executionCached(_, let cached, _) = message { nodes.formUnion(cached.lazy.map { Name($0) }) }
        }
    }
}
