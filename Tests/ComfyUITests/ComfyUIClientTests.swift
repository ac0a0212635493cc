import ComfyUI
import NIOCore
import NIOHTTP1
import OrderedCollections
import OrderedJSON
import Synchronization
import Testing

@Suite(.timeLimit(.minutes(5))) struct ComfyUIClientTests {
    static let prompt = PromptSubmission(
        promptID: "3b1c7a52-0c0f-4b86-8b3a-6d7d4f1f2a10", clientID: "me", graph: ["1": ["class_type": "X", "inputs": [:]]])

    /// What a caller sees of everything that is no proper answer.
    @Test(arguments: [
        (
            FakeHTTPServer.Reply.answer(500, "500 Internal Server Error\n\nServer got itself in trouble", contentType: "text/plain; charset=utf-8"),
            ComfyUIError.badAnswer(status: 500, bodyStart: "500 Internal Server Error\n\nServer got itself in trouble")
        ),
        (.answer(502, "<html>Bad Gateway</html>", contentType: "text/html"), .badAnswer(status: 502, bodyStart: "<html>Bad Gateway</html>")),
        (.answer(200, "<html>login</html>", contentType: "text/html"), .badAnswer(status: 200, bodyStart: "<html>login</html>")),
        (.answer(200, #"{"queue_running": [], "#), .badAnswer(status: 200, bodyStart: #"{"queue_running": [], "#)),
        (.answer(200, "[]"), .badAnswer(status: 200, bodyStart: "[]")),
        (
            .answer(200, #"{"queue_running": [[1]], "queue_pending": []}"#),
            .badAnswer(status: 200, bodyStart: #"{"queue_running": [[1]], "queue_pending": []}"#)
        ),
        (.answer(200, ""), .badAnswer(status: 200, bodyStart: "")),
        (.answer(200, String(repeating: "x", count: 5000)), .badAnswer(status: 200, bodyStart: String(repeating: "x", count: 512))),
        (.answer(302, "", headers: [("Location", "/elsewhere")]), .badAnswer(status: 302, bodyStart: "")),
        (.answer(403, "", contentType: nil), .badAnswer(status: 403, bodyStart: "")),
        (.answer(404, "", contentType: nil), .notFound),
        (.answer(413, "Maximum request body size 104857600 exceeded.", contentType: "text/plain"), .tooLarge(limit: 104_857_600)),
        (.answer(413, "<html>nginx</html>", contentType: "text/html"), .tooLarge(limit: nil)),
        (.endless(status: 200), .answerTooLarge(limit: 64 << 20)),
        (.raw(""), .connectionLost(reason: "the connection was closed")),
    ])
    func badAnswersAreTold(_ reply: FakeHTTPServer.Reply, expected: ComfyUIError) async throws {
        try await FakeHTTPServer.withClient(respond: { _ in reply }) { client, _ in
            let error = await #expect(throws: ComfyUIError.self) { try await client.queue() }
            #expect(error == expected)
        }
    }

    @Test(arguments: ["SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"queue_running\""])
    func whatIsNoWholeHTTPIsALostConnection(_ bytes: String) async throws {
        try await FakeHTTPServer.withClient(respond: { _ in .raw(bytes) }) { client, _ in
            let error = await #expect(throws: ComfyUIError.self) { try await client.queue() }
            guard case .connectionLost = error else {
                Issue.record("\(String(describing: error))")
                return
            }
        }
    }

    /// Nil where there is no such route, or nobody lets it pass: then there is another way.
    @Test(
        arguments: [
            (200, #"{"cancelled": true}"#, true), (200, #"{"cancelled": false}"#, false), (404, "", nil), (405, "405: Method Not Allowed", nil), (403, "", nil),
            (501, "", nil), (200, "<html>login</html>", nil), (200, "{}", nil),
        ] as [(Int, String, Bool?)])
    func cancels(_ status: Int, _ body: String, _ expected: Bool?) async throws {
        let target = Mutex("")
        try await FakeHTTPServer.withClient(respond: { request in
            target.withLock { $0 = "\(request.method) \(request.uri)" }
            return .answer(status, body)
        }) { client, _ in
            let isCancelled = try await client.cancel(promptID: "3b1c7a52-0c0f-4b86-8b3a-6d7d4f1f2a10")
            #expect(isCancelled == expected)
        }
        #expect(target.withLock { $0 } == "POST /api/jobs/3b1c7a52-0c0f-4b86-8b3a-6d7d4f1f2a10/cancel")
    }

    @Test func aFailingCancelIsAnError() async throws {
        try await FakeHTTPServer.withClient(respond: { _ in .answer(500, "") }) { client, _ in
            let error = await #expect(throws: ComfyUIError.self) { try await client.cancel(promptID: "x") }
            #expect(error == .badAnswer(status: 500, bodyStart: ""))
        }
    }

    /// ComfyUI writes a list where there are no node errors; node packs answer in their own ways.
    @Test(arguments: [
        (#"{"error": {"type": "no_prompt", "message": "No prompt", "details": "", "extra_info": {}}, "node_errors": []}"#, "no_prompt", 0),
        (#"{"error": {"type": "t", "message": "m"}, "node_errors": null}"#, "t", 0),
        (#"{"error": {"type": "t"}}"#, "t", 0),
        (#"{"error": "not allowed"}"#, "error", 0),
        (#"{"error": {"type": "t"}, "node_errors": {"1": {"errors": ["odd"], "dependent_outputs": [9]}}}"#, "t", 1),
    ])
    func rejectionsOfAnyShapeAreRead(_ body: String, type: String, nodes: Int) async throws {
        try await FakeHTTPServer.withClient(respond: { _ in .answer(400, body) }) { client, _ in
            let error = await #expect(throws: ComfyUIError.self) { try await client.submit(Self.prompt) }
            guard case .rejected(let rejection) = error else {
                Issue.record("\(String(describing: error))")
                return
            }
            #expect(rejection.type == type && !rejection.message.isEmpty && rejection.nodeErrors.count == nodes)
            #expect(rejection.nodeErrors.values.allSatisfy { $0.errors.first?.message == "odd" && $0.dependentOutputs == ["9"] })
        }
    }

    @Test(arguments: ["", "bad", "{}", #"{"error": 5}"#, #"{"error": {}}"#])
    func other400sAreBadAnswers(_ body: String) async throws {
        try await FakeHTTPServer.withClient(respond: { _ in .answer(400, body) }) { client, _ in
            let error = await #expect(throws: ComfyUIError.self) { try await client.submit(Self.prompt) }
            #expect(error == .badAnswer(status: 400, bodyStart: body))
        }
    }

    /// An endless error page is an error page.
    @Test func endlessErrorsAreCut() async throws {
        try await FakeHTTPServer.withClient(respond: { _ in .endless(status: 500) }) { client, server in
            let error = await #expect(throws: ComfyUIError.self) { try await client.submit(Self.prompt) }
            guard case .badAnswer(500, let start) = error else {
                Issue.record("\(String(describing: error))")
                return
            }
            #expect(start.utf8.count == 512)
            try await server.nextClose()
        }
    }

    @Test(arguments: ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"queue_running\""])
    func waitsAreBounded(_ start: String) async throws {
        try await FakeHTTPServer.withClient(requestTimeout: .seconds(3), respond: { _ in .stall(start) }) { client, server in
            let error = await #expect(throws: ComfyUIError.self) { try await client.queue() }
            #expect(error == .timedOut)
            try await server.nextClose()
        }
    }

    @Test func refusedConnectionsFailAtOnce() async throws {
        let port = try await unusedPort()
        try await withComfyUIClient("http://127.0.0.1:\(port)") { client in
            let error = await #expect(throws: ComfyUIError.self) { try await client.submit(Self.prompt) }
            guard case .unreachable(let reason) = error else {
                Issue.record("\(String(describing: error))")
                return
            }
            #expect(reason.lowercased().contains("refused"))
        }
    }

    @Test func unknownHostsAreUnreachable() async throws {
        try await withComfyUIClient("http://no-such-host.invalid:8188", requestTimeout: .seconds(20)) { client in
            let error = await #expect(throws: ComfyUIError.self) { try await client.queue() }
            guard case .unreachable(let reason) = error else {
                Issue.record("\(String(describing: error))")
                return
            }
            #expect(reason.contains("no-such-host.invalid"))
        }
    }

    @Test func cancellationIsTold() async throws {
        try await FakeHTTPServer.withClient(respond: { _ in .stall("") }) { client, server in
            try await withThrowingTaskGroup(of: ComfyUIError?.self) { group in
                group.addTask {
                    do throws(ComfyUIError) {
                        _ = try await client.queue()
                        return nil
                    } catch {
                        return error
                    }
                }
                _ = try await server.nextRequest()
                group.cancelAll()
                #expect(try await group.next() == .cancelled)
            }
            try await server.nextClose()
        }
    }

    /// What ComfyUI must and must not see (protocol sections 1 and 14).
    @Test func requestsAreWrittenAsComfyUIReadsThem() async throws {
        let answer = FakeHTTPServer.Reply.answer(200, #"{"prompt_id": "x", "number": 3, "node_errors": []}"#)
        try await FakeHTTPServer.withClient(path: "/comfy", respond: { _ in answer }) { client, server in
            let graph = #"{"1": {"class_type": "K", "inputs": {"seed": 18446744073709551615}}}"#
            let receipt = try await client.submit(
                PromptSubmission(
                    promptID: "x", clientID: "a\"b", encodedGraph: Array(graph.utf8),
                    extraData: ["preview_method": "auto"], partialExecutionTargets: ["9"]))
            #expect(receipt.promptID == "x" && receipt.number == 3 && receipt.nodeErrors.isEmpty)
            let request = try await server.nextRequest()
            #expect(request.method == "POST" && request.uri == "/comfy/prompt")
            let rest = #""prompt_id":"x","client_id":"a\"b","extra_data":{"preview_method":"auto"},"partial_execution_targets":["9"]}"#
            #expect(String(buffer: request.body) == #"{"prompt":\#(graph),\#(rest)"#)
            #expect(request.headers["Content-Type"] == ["application/json"])
            #expect(request.headers["Content-Length"] == ["\(request.body.readableBytes)"])
            let names = request.headers.map { $0.name.lowercased() }
            #expect(!names.contains { ["origin", "expect", "transfer-encoding"].contains($0) || $0.hasPrefix("sec-fetch") })
        }
    }

    @Test func smallRoutes() async throws {
        try await FakeHTTPServer.withClient(respond: { request in
            switch (request.method, request.uri) {
            case ("POST", "/interrupt"), ("POST", "/queue"), ("POST", "/history"), ("POST", "/free"): .answer(200, "", contentType: nil)
            case ("GET", "/object_info/A%20%2F%C3%A4"): .answer(200, #"{"A /ä": {"input": {}}}"#)
            case ("GET", "/object_info/B"): .answer(200, "{}")
            case ("GET", "/object_info"), ("GET", "/system_stats"), ("GET", "/features"): .answer(200, #"{"z": 1, "a": NaN}"#)
            default: .answer(404, "", contentType: nil)
            }
        }) { client, server in
            func body() async throws -> String { String(buffer: try await server.nextRequest().body) }
            try await client.interrupt(promptID: "p")
            #expect(try await body() == #"{"prompt_id":"p"}"#)
            try await client.deleteQueued(["p", "q"])
            #expect(try await body() == #"{"delete":["p","q"]}"#)
            try await client.deleteHistory(["p"])
            #expect(try await body() == #"{"delete":["p"]}"#)
            try await client.free(unloadModels: true, freeMemory: false)
            #expect(try await body() == #"{"unload_models":true,"free_memory":false}"#)
            #expect(try await client.objectInfo(class: "A /ä") == ["input": [:]])
            #expect(try await client.objectInfo(class: "B") == nil)
            #expect(try await Array(client.objectInfo().keys) == ["z", "a"])
            #expect(try await client.systemStats()["z"] == 1)
            #expect(try await client.features()["z"] == 1)
            #expect(try await client.nodeReplacements().isEmpty)
        }
    }

    @Test func speaksTLS() async throws {
        let certificate = try TestCertificate()
        try await FakeHTTPServer.with(tls: try certificate.serverContext(), respond: { _ in .answer(200, #"{"a": 1}"#) }) { server in
            try await withComfyUIClient("https://localhost:\(server.port)", tls: certificate.clientConfiguration()) { client in
                let features = try await client.features()
                #expect(features == ["a": 1])
            }
            try await withComfyUIClient("https://localhost:\(server.port)") { client in
                let error = await #expect(throws: ComfyUIError.self) { try await client.features() }
                guard case .unreachable(let reason) = error else {
                    Issue.record("\(String(describing: error))")
                    return
                }
                #expect(reason.contains("its TLS certificate is not trusted"))
            }
        }
    }

    @Test func credentialsGoIntoTheHeader() async throws {
        try await FakeHTTPServer.with(respond: { _ in .answer(200, "{}") }) { server in
            try await withComfyUIClient("http://user:pass@127.0.0.1:\(server.port)") { client in
                _ = try await client.features()
                let request = try await server.nextRequest()
                #expect(request.headers["Authorization"] == ["Basic dXNlcjpwYXNz"])
                #expect(request.headers["Host"] == ["127.0.0.1:\(server.port)"])
            }
        }
    }
}
