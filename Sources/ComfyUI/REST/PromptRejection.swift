package import OrderedCollections
package import OrderedJSON

/// Why ComfyUI refused a whole prompt (protocol section 2.4).
package struct PromptRejection: Sendable, Hashable {
    /// For example `prompt_outputs_failed_validation`; 0.25 and 0.3.64 differ (`missing_node_type`, `invalid_prompt`).
    package let type: String
    package let message: String
    /// Often empty although `nodeErrors` says more.
    package let details: String
    package let extraInfo: JSON
    /// By node id, in ComfyUI's order. Empty for faults that belong to no node.
    package let nodeErrors: OrderedDictionary<Name, NodeErrors>

    /// nil when `json` is not the answer to a refused prompt.
    package init?(_ json: JSON) {
        guard let error = json["error"] else { return nil }
        if let text = error.string {  // node packs that answer on their own
            (type, message, details, extraInfo) = ("error", text, "", .object([:]))
        } else if let type = error["type"]?.string {
            self.type = type
            message = error["message"]?.string ?? type
            details = error["details"]?.string ?? ""
            extraInfo = error["extra_info"] ?? .object([:])
        } else {
            return nil
        }
        nodeErrors = NodeErrors.decode(json["node_errors"])
    }
}

/// What is wrong with one node.
package struct NodeErrors: Sendable, Hashable {
    package let classType: String?
    package let errors: [NodeError]
    /// Ids of the output nodes that cannot run because of this node.
    package let dependentOutputs: [String]

    init(_ json: JSON) {
        classType = json["class_type"]?.string
        errors = (json["errors"]?.array ?? []).map(NodeError.init)
        dependentOutputs = (json["dependent_outputs"]?.array ?? []).compactMap(\.identifier)
    }

    /// The `node_errors` member of an answer. ComfyUI writes a list when there are none; that, null and a missing member count as empty.
    static func decode(_ json: JSON?) -> OrderedDictionary<Name, NodeErrors> {
        OrderedDictionary(uniqueKeysWithValues: (json?.object ?? [:]).lazy.map { (Name($0.key), NodeErrors($0.value)) })
    }
}

/// One fault of a node, for example `value_not_in_list`.
package struct NodeError: Sendable, Hashable {
    package let type: String
    package let message: String
    /// Mostly the name of the input.
    package let details: String
    /// `input_name`, `received_value` … by type; `traceback` names paths of the server.
    package let extraInfo: JSON

    /// The input that is at fault, when the error names one.
    package var inputName: String? { extraInfo["input_name"]?.string }

    init(_ json: JSON) {
        type = json["type"]?.string ?? "unknown"
        message = json["message"]?.string ?? json.string ?? type
        details = json["details"]?.string ?? ""
        extraInfo = json["extra_info"] ?? .object([:])
    }
}
