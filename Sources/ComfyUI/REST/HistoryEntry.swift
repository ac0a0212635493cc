package import OrderedJSON

/// What ComfyUI keeps of a prompt that is over (protocol section 3.1). The truth about outputs and outcome.
package struct HistoryEntry: Sendable, Hashable {
    package enum Outcome: Sendable, Hashable {
        case succeeded
        case failed(ExecutionError)
        case interrupted
    }

    package enum Status: String, Sendable, Hashable {
        case success, error
    }

    package let promptID: String
    package let number: Double
    /// `ui` results by node id, in the order in which ComfyUI announced them. Nodes of an expanded subgraph appear under their generated id.
    package let outputs: JSONObject
    /// The node of the submitted graph for each key of `outputs` that has one.
    package let displayNodes: [Name: String]
    package let status: Status
    package let completed: Bool
    /// The events with a time stamp, as they were sent over the socket. One that this client cannot read is kept as `unknown`.
    package let messages: [ComfyMessage]

    /// nil when `json` is not a history entry.
    package init?(promptID: String, _ json: JSON) {
        guard let outputs = json["outputs"]?.object else { return nil }
        self.promptID = promptID
        number = json["prompt"]?[0]?.double ?? 0
        self.outputs = outputs
        displayNodes = (json["meta"]?.object ?? [:]).reduce(into: [:]) { nodes, member in
            nodes[member.key] = member.value["display_node"]?.identifier
        }
        switch json["status"] {
        case .object(let members)?:
            // "success" or "error"; anything else that a fork may write is told by `completed`.
            let completed = members["completed"]?.bool
            status = members["status_str"]?.string.flatMap(Status.init) ?? (completed == true ? .success : .error)
            self.completed = completed ?? (status == .success)
            messages = (members["messages"]?.array ?? []).compactMap(Self.message)
        default:  // null: the worker handed the prompt over without a status, which it does only when nothing failed
            (status, completed, messages) = (.success, true, [])
        }
    }

    /// How the prompt ended. An interrupted one has the status of a failed one; the last message of its kind tells them apart.
    package var outcome: Outcome {
        if status == .success { return .succeeded }
        for message in messages.reversed() {
            switch message {
            case .executionInterrupted: return .interrupted
            case .executionError(let error) where !error.isBlocked: return .failed(error)
            default: continue
            }
        }
        return .failed(ExecutionError(promptID: promptID, message: "ComfyUI reports a failure without saying why."))
    }

    /// Server clock, milliseconds since 1970: first and last time stamp among the messages.
    package var executionStart: Int? { messages.lazy.compactMap(\.timestamp).first }
    package var executionEnd: Int? { messages.lazy.compactMap(\.timestamp).last }

    /// `["execution_start", {…}]`
    private static func message(_ json: JSON) -> ComfyMessage? {
        guard let type = json[0]?.string else { return nil }
        let data = json[1] ?? .null
        return (try? ComfyMessage(type: type, data: data)) ?? .unknown(type: type, raw: data.text)
    }
}
