import OrderedCollections
import OrderedJSON

/// One class of nodes: its `object_info` entry, read, and what it does.
struct NodeClass: Sendable {
    struct Input: Sendable {
        enum Kind: Sendable {
            case type(String)
            /// Both forms of choice lists (protocol section 3.2).
            case choices([JSON])
        }

        let name: String
        let kind: Kind
        let isRequired: Bool
        let options: JSONObject
        /// As `input_config` in messages: `[type or list, {options}]`.
        let config: JSON

        /// What a message calls the type.
        var typeText: String {
            switch kind {
            case .type(let name): name
            case .choices(let options): PythonText.repr(.array(options))
            }
        }
    }

    let name: String
    let info: JSONObject
    /// Required ones first, in declared order.
    let inputs: [Input]
    let outputs: [String]
    let isOutput: Bool
    /// Shows its result though it is no output node (protocol section 6, `executed`).
    let showsResult: Bool
    let behavior: NodeBehavior

    init(name: String, info: JSONObject, behavior: NodeBehavior) {
        self.name = name
        self.info = info
        self.behavior = behavior
        isOutput = info["output_node"]?.bool ?? false
        showsResult = info["has_intermediate_output"]?.bool ?? false
        outputs = info["output"]?.array?.map { $0.string ?? "COMBO" } ?? []
        inputs = ["required", "optional"].flatMap { group in
            (info["input"]?[group]?.object ?? [:]).map { name, config in
                Input(name: name, config: config, isRequired: group == "required")
            }
        }
    }
}

extension NodeClass.Input {
    init(name: String, config: JSON, isRequired: Bool) {
        let type = config[0] ?? .null
        options = config[1]?.object ?? [:]
        self.name = name
        self.isRequired = isRequired
        self.config = [type, .object(options)]
        switch type {
        case .array(let list): kind = .choices(list)
        case .string("COMBO"): kind = .choices(options["options"]?.array ?? [])
        default: kind = .type(type.string ?? "*")
        }
    }
}

/// What a class does when it runs.
struct NodeBehavior: Sendable {
    /// The input that names a file on the server. It is checked at submit, and the file's bytes are part of the cache key.
    var fileInput: String?
    /// False: runs every time (its `IS_CHANGED` never equals itself).
    var isCached = true
    /// The first version that has the class.
    var since = ComfySimulator.Compatibility.v0_3_64
    /// The input that it hands on, from 0.33 on, as if it were its output.
    var handsOn: String?
    let run: @Sendable (NodeCall) throws -> NodeResult
}

/// What a node hands on.
struct NodeResult {
    /// One value per output.
    var values: [NodeValue] = []
    /// The `ui` object, for `executed` and the history.
    var ui: JSONObject?
    /// Nodes to run in its place.
    var expansion: Expansion?

    static func values(_ values: NodeValue...) -> NodeResult { NodeResult(values: values) }
    static func ui(_ ui: JSONObject, _ values: NodeValue...) -> NodeResult { NodeResult(values: values, ui: ui) }
}

/// A subgraph that a node puts in its place at run time (protocol section 8.1, expanded nodes).
struct Expansion {
    /// Nodes by their generated ids, in API format.
    let graph: JSONObject
    /// Which node and slot of the subgraph stands for each output.
    let outputs: [Link]
}

/// `["node id", slot]`.
struct Link: Hashable, Sendable {
    let node: String
    let slot: Int

    init(node: String, slot: Int) {
        self.node = node
        self.slot = slot
    }

    /// Nil for everything that is a value.
    init?(_ json: JSON) {
        guard case .array(let parts) = json, parts.count == 2, case .string(let node) = parts[0], case .number(let slot) = parts[1],
            let slot = slot.int
        else { return nil }
        self.init(node: node, slot: slot)
    }

    var json: JSON { [.string(node), JSON(slot)] }
}
