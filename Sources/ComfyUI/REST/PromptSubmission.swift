package import OrderedCollections
package import OrderedJSON

/// One `POST /prompt`. There is no `number` and no `front`: equal numbers with equal ids kill ComfyUI's worker (protocol section 13).
package struct PromptSubmission: Sendable {
    /// A lower-case UUID that was never used before: other forms are refused by 0.25, repeated ones are run again.
    package let promptID: String
    /// The `clientId` of the socket that gets the events. Without one cached outputs would be missing from the history.
    package let clientID: String
    /// The API-format graph as JSON text.
    package let graph: [UInt8]
    package let extraData: JSONObject
    /// Ids of the output nodes to run; nil for all.
    package let partialExecutionTargets: [String]?

    package init(
        promptID: String, clientID: String, graph: JSON, extraData: JSONObject = [:], partialExecutionTargets: [String]? = nil
    ) {
        self.init(
            promptID: promptID, clientID: clientID, encodedGraph: graph.encoded(), extraData: extraData,
            partialExecutionTargets: partialExecutionTargets)
    }

    /// - Parameter encodedGraph: one JSON object; sent as it is.
    package init(
        promptID: String, clientID: String, encodedGraph: [UInt8], extraData: JSONObject = [:], partialExecutionTargets: [String]? = nil
    ) {
        self.promptID = promptID
        self.clientID = clientID
        self.graph = encodedGraph
        self.extraData = extraData
        self.partialExecutionTargets = partialExecutionTargets
    }

    /// The request body.
    func encoded() -> [UInt8] {
        var body: [UInt8] = []
        body.reserveCapacity(graph.count + 512)
        body.append(contentsOf: #"{"prompt":"#.utf8)
        body.append(contentsOf: graph)
        body.append(contentsOf: #","prompt_id":"#.utf8)
        JSON.string(promptID).append(to: &body)
        body.append(contentsOf: #","client_id":"#.utf8)
        JSON.string(clientID).append(to: &body)
        body.append(contentsOf: #","extra_data":"#.utf8)
        JSON.object(extraData).append(to: &body)
        if let partialExecutionTargets {
            body.append(contentsOf: #","partial_execution_targets":"#.utf8)
            JSON.array(partialExecutionTargets.map(JSON.string)).append(to: &body)
        }
        body.append(UInt8(ascii: "}"))
        return body
    }
}

/// 200 to a prompt: it is queued, possibly without some of its outputs.
package struct PromptReceipt: Sendable, Hashable {
    package let promptID: String
    /// The position in ComfyUI's order of work; lower runs first. Counts from 0 since ComfyUI's start.
    package let number: Double
    /// Nodes whose outputs ComfyUI left out because they did not validate (protocol section 2.3); empty when everything runs.
    package let nodeErrors: OrderedDictionary<Name, NodeErrors>

    /// nil when `json` is not the answer to an accepted prompt.
    package init?(_ json: JSON) {
        guard let promptID = json["prompt_id"]?.string else { return nil }
        self.promptID = promptID
        self.number = json["number"]?.double ?? 0
        self.nodeErrors = NodeErrors.decode(json["node_errors"])
    }
}
