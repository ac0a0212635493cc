import OrderedCollections
import OrderedJSON

/// The state of each node that started, as `progress_state` lists it: cumulative, so a run sends O(n²) text.
struct RunProgress {
    private struct Node {
        var value: JSON
        var maximum: JSON
        var isFinished: Bool
        let identity: NodeIdentity

        func json(promptID: String) -> JSON {
            [
                "value": value, "max": maximum, "state": isFinished ? "finished" : "running", "node_id": .string(identity.id),
                "prompt_id": .string(promptID), "display_node_id": .string(identity.real), "parent_node_id": .optional(identity.parent),
                "real_node_id": .string(identity.real),
            ]
        }
    }

    private let promptID: String
    private var nodes: OrderedDictionary<String, Node> = [:]

    init(promptID: String) { self.promptID = promptID }

    mutating func start(_ node: NodeIdentity) {
        nodes[node.id] = Node(value: Self.zero, maximum: Self.one, isFinished: false, identity: node)
    }

    mutating func update(_ id: String, value: Int, maximum: Int) {
        nodes[id]?.value = JSON(value)
        nodes[id]?.maximum = JSON(maximum)
    }

    /// A cached node, which never started, counts 1 of 1 in integers; a started one keeps its maximum.
    mutating func finish(_ node: NodeIdentity) {
        if nodes[node.id] == nil { nodes[node.id] = Node(value: 1, maximum: 1, isFinished: true, identity: node) }
        nodes[node.id]?.isFinished = true
        if let maximum = nodes[node.id]?.maximum { nodes[node.id]?.value = maximum }
    }

    /// `data` of the message.
    var json: JSON {
        ["prompt_id": .string(promptID), "nodes": .object(JSONObject(uniqueKeysWithValues: nodes.lazy.map { ($0.key, $0.value.json(promptID: promptID)) }))]
    }

    /// Python floats, where a node that was not heard of yet has them.
    private static let zero = JSON.number(JSONNumber(literal: "0.0"))
    private static let one = JSON.number(JSONNumber(literal: "1.0"))
}

/// Which progress reports are sent (protocol section 6, `progress`).
struct ProgressThrottle {
    private var last: (value: Int, time: ContinuousClock.Instant)?

    /// 0.25: without a preview the first and the last value always, else at most one per 100 ms and per half percent.
    mutating func passes(value: Int, maximum: Int, hasPreview: Bool, now: ContinuousClock.Instant) -> Bool {
        if !hasPreview, let last, value < maximum {
            guard now - last.time >= .milliseconds(100), Double(value - last.value) >= Double(maximum) * 0.005 else { return false }
        }
        last = (value, now)
        return true
    }
}
