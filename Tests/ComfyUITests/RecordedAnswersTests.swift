import ComfyUI
import NIOCore
import OrderedCollections
import OrderedJSON
import Synchronization
import Testing

/// Every answer that real ComfyUIs gave to `/prompt`, `/queue` and `/history/{id}`, played to the client again.
@Suite(.timeLimit(.minutes(5))) struct RecordedAnswersTests {
    /// A server that gives the recorded answers one after the other.
    private static func replay(_ exchanges: [Recording.Exchange], _ body: (ComfyUIClient, Recording.Exchange) async throws -> Void) async throws {
        let rest = Mutex(exchanges[...])
        try await FakeHTTPServer.withClient(respond: { _ in
            let exchange = rest.withLock { $0.removeFirst() }
            return .bytes(exchange.status, exchange.body, headers: exchange.headers.map { ($0.key, $0.value.string ?? "") })
        }) { client, _ in
            for exchange in exchanges { try await body(client, exchange) }
        }
        #expect(rest.withLock { $0.isEmpty })
    }

    @Test(arguments: Recording.all)
    func prompts(_ recording: Recording) async throws {
        let exchanges = try recording.exchanges().filter { $0.method == "POST" && $0.path.hasSuffix("/prompt") }
        try await Self.replay(exchanges) { client, exchange in
            switch exchange.status {
            case 200:
                let receipt = try await client.submit(ComfyUIClientTests.prompt)
                #expect(receipt.promptID == exchange.json?["prompt_id"]?.string)
                #expect(receipt.nodeErrors.keys.map(\.text) == (exchange.json?["node_errors"]?.object.map { Array($0.keys) } ?? []))
                try Self.check(receipt.nodeErrors, exchange)
            case 400:
                let error = await #expect(throws: ComfyUIError.self) { try await client.submit(ComfyUIClientTests.prompt) }
                guard case .rejected(let rejection) = error else {
                    Issue.record("\(String(describing: error))")
                    return
                }
                let json = try #require(exchange.json?["error"])
                #expect(rejection.type == json["type"]?.string && rejection.message == json["message"]?.string)
                #expect(rejection.details == json["details"]?.string && rejection.extraInfo == json["extra_info"])
                try Self.check(rejection.nodeErrors, exchange)
            default:
                let error = await #expect(throws: ComfyUIError.self) { try await client.submit(ComfyUIClientTests.prompt) }
                #expect(error == .badAnswer(status: exchange.status, bodyStart: String(decoding: exchange.body.prefix(512), as: UTF8.self)))
            }
        }
    }

    private static func check(_ errors: OrderedDictionary<Name, NodeErrors>, _ exchange: Recording.Exchange) throws {
        let json = exchange.json?["node_errors"]?.object ?? [:]
        #expect(errors.keys.map(\.text) == json.keys)
        for (nodeID, node) in errors.map({ ($0.key.text, $0.value) }) {
            #expect(node.classType == json[nodeID]?["class_type"]?.string && node.classType != nil)
            #expect(node.errors.count == json[nodeID]?["errors"]?.array?.count)
            #expect(node.errors.allSatisfy { $0.type != "unknown" && !$0.message.isEmpty })
        }
    }

    @Test func allShapesOfRejectionAreThere() throws {
        let rejected = try Recording.all.flatMap { try $0.exchanges() }
            .filter { $0.method == "POST" && $0.path.hasSuffix("/prompt") && $0.status == 400 }
        let types = Set(rejected.compactMap { $0.json?["error"]?["type"]?.string })
        #expect(
            types == [
                "no_prompt", "invalid_prompt", "invalid_prompt_id", "missing_node_type", "prompt_no_outputs", "prompt_outputs_failed_validation",
            ])
    }

    @Test(arguments: Recording.all)
    func queues(_ recording: Recording) async throws {
        let exchanges = try recording.exchanges().filter { $0.method == "GET" && $0.path.hasSuffix("/queue") && $0.status == 200 }
        try await Self.replay(exchanges) { client, exchange in
            let queue = try await client.queue()
            #expect(queue.running.count == exchange.json?["queue_running"]?.array?.count)
            #expect(queue.pending.count == exchange.json?["queue_pending"]?.array?.count)
            let numbers = queue.pending.map(\.number)
            #expect(numbers == numbers.sorted())
            for item in queue.running + queue.pending {
                #expect(queue.contains(item.promptID) && !item.outputNodes.isEmpty)
                #expect((item.createTime != nil) == recording.name.hasPrefix("v0."))
            }
            #expect(!queue.contains("nothing"))
        }
    }

    @Test(arguments: Recording.all)
    func histories(_ recording: Recording) async throws {
        let exchanges = try recording.exchanges().filter { $0.method == "GET" && $0.path.contains("/history/") && $0.status == 200 }
        try await Self.replay(exchanges) { client, exchange in
            let promptID = try #require(exchange.path.split(separator: "/").last.map(String.init))
            let entry = try await client.history(promptID)
            let json = exchange.json?[promptID]
            #expect((entry == nil) == (json == nil))
            if let entry, let json { try Self.check(entry, json) }
        }
    }

    /// The whole list is not asked for by the client, but its entries are the same.
    @Test(arguments: Recording.all)
    func listedHistories(_ recording: Recording) throws {
        for exchange in try recording.exchanges() where exchange.method == "GET" && exchange.path.hasSuffix("/history") && exchange.status == 200 {
            for (promptID, json) in try #require(exchange.json?.object) {
                try Self.check(try #require(HistoryEntry(promptID: promptID, json)), json)
            }
        }
    }

    private static func check(_ entry: HistoryEntry, _ json: JSON) throws {
        #expect(Array(entry.outputs.keys) == json["outputs"]?.object.map { Array($0.keys) })
        #expect(entry.status.rawValue == json["status"]?["status_str"]?.string)
        #expect(entry.completed == json["status"]?["completed"]?.bool)
        let names = try #require(json["status"]?["messages"]?.array).compactMap { $0[0]?.string }
        #expect(entry.messages.map(\.type) == names)
        #expect(!entry.messages.contains { if case .unknown = $0 { true } else { false } })
        #expect(try #require(entry.executionStart) <= #require(entry.executionEnd))
        switch entry.outcome {
        case .succeeded: #expect(names.last == "execution_success")
        case .interrupted: #expect(names.last == "execution_interrupted")
        case .failed(let error): #expect(names.last == "execution_error" && !error.isBlocked && error.nodeID != nil)
        }
        for (nodeID, output) in entry.outputs {
            #expect(entry.displayNodes[nodeID] != nil)
            for item in output["images"]?.array ?? [] { #expect(FileReference(item) != nil) }
        }
    }

    @Test func allOutcomesAreThere() throws {
        let answers = try Recording.all.flatMap { try $0.exchanges() }
            .filter { $0.method == "GET" && $0.path.contains("/history/") && $0.status == 200 }
        let outcomes: [HistoryEntry.Outcome] = answers.compactMap { answer in
            guard let (promptID, json) = answer.json?.object?.first else { return nil }
            return HistoryEntry(promptID: promptID, json)?.outcome
        }
        #expect(outcomes.contains(.succeeded) && outcomes.contains(.interrupted))
        #expect(outcomes.contains { if case .failed = $0 { true } else { false } })
    }
}
