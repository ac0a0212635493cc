package import OrderedJSON

/// `GET /queue` at one moment.
package struct QueueSnapshot: Sendable, Hashable {
    /// At most one in ComfyUI as it is.
    package let running: [QueueItem]
    /// In the order in which they will run: by number, then by prompt id as text.
    package let pending: [QueueItem]

    package init(running: [QueueItem], pending: [QueueItem]) {
        self.running = running
        self.pending = pending
    }

    /// nil when `json` is not the answer of the route.
    package init?(_ json: JSON) {
        guard let running = json["queue_running"]?.array, let pending = json["queue_pending"]?.array else { return nil }
        var items: [[QueueItem]] = []
        for list in [running, pending] {
            let decoded = list.compactMap(QueueItem.init)
            guard decoded.count == list.count else { return nil }
            items.append(decoded)
        }
        self.running = items[0]
        self.pending = items[1].sorted(by: QueueItem.runsBefore)
    }

    package func contains(_ promptID: String) -> Bool {
        running.contains { $0.promptID == promptID } || pending.contains { $0.promptID == promptID }
    }
}

/// One prompt in ComfyUI's queue. Its graph is not kept.
package struct QueueItem: Sendable, Hashable {
    package let number: Double
    package let promptID: String
    /// Nil for a prompt that was submitted without one.
    package let clientID: String?
    /// Ids of the output nodes that will run.
    package let outputNodes: [String]
    /// Server clock, milliseconds since 1970; 0.25 and newer.
    package let createTime: Int?

    /// `[number, prompt_id, graph, extra_data, [output ids], …]`
    package init?(_ json: JSON) {
        guard let number = json[0]?.double, let promptID = json[1]?.string else { return nil }
        self.number = number
        self.promptID = promptID
        clientID = json[3]?["client_id"]?.string
        createTime = json[3]?["create_time"]?.int
        outputNodes = (json[4]?.array ?? []).compactMap(\.identifier)
    }

    /// Python's order of the tuples (number, prompt_id): text by code point, which for UTF-8 is the order of the bytes.
    static func runsBefore(_ one: QueueItem, _ other: QueueItem) -> Bool {
        one.number == other.number ? one.promptID.utf8.lexicographicallyPrecedes(other.promptID.utf8) : one.number < other.number
    }
}
