import OrderedCollections
import OrderedJSON

/// The place in the queue: lower runs first.
struct Priority: Sendable {
    let value: Double
    /// As it is echoed: a counter as an integer, a number of the client's as a float.
    let json: JSON

    init(counter: Int) {
        value = Double(counter)
        json = JSON(counter)
    }

    init(given: Double) {
        value = given
        json = .number(JSONNumber(literal: PythonText.float(given)))
    }
}

/// A prompt that was accepted.
struct Prompt: Sendable {
    let id: String
    let priority: Priority
    /// With the values that validation coerced.
    let graph: JSONObject
    /// What `/queue` and `/history` show.
    let extraData: JSONObject
    /// The output nodes to execute.
    let outputs: [String]
    let client: ClientID
    /// Whether samplers send previews in this run.
    let previews: Bool
    /// `extra_data` is null, or the worker raises over a node without `inputs` that no output needs.
    let killsWorker: Bool

    /// The five fields of `/queue` and `/history`.
    func item(extraData: JSONObject? = nil) -> JSON {
        [priority.json, .string(id), .object(graph), .object(extraData ?? self.extraData), .array(outputs.map(JSON.string))]
    }
}

/// What `/history` keeps of a run (protocol section 3.1).
struct HistoryEntry: Sendable {
    enum Outcome: Sendable { case success, error, interrupted }

    let prompt: Prompt
    /// By node id. An object, unless a fault made something else of it.
    var outputs: JSON
    let meta: JSONObject
    /// The events that carry a timestamp: name and data.
    let messages: [(name: String, data: JSONObject)]
    let outcome: Outcome

    var status: JSON {
        [
            "status_str": outcome == .success ? "success" : "error",
            "completed": JSON(outcome == .success),
            "messages": .array(messages.map { [.string($0.name), .object($0.data)] }),
        ]
    }

    var json: JSON {
        [
            "prompt": prompt.item(extraData: prompt.extraData.withoutKeys), "outputs": outputs, "status": status,
            "meta": .object(meta),
        ]
    }
}

extension JSONObject {
    /// `extra_data` without what partner nodes authenticate with; 0.3.64 removes it from the history only.
    var withoutKeys: JSONObject {
        guard self["api_key_comfy_org"] != nil || self["auth_token_comfy_org"] != nil else { return self }
        return filter { $0.key != "api_key_comfy_org" && $0.key != "auth_token_comfy_org" }
    }
}
