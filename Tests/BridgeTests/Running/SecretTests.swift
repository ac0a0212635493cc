import Foundation
import InMemoryLogging
import Logging
import NIOHTTP1
import OrderedCollections
import OrderedJSON
import Simulator
import Testing

@testable import API
@testable import TestSupport

/// `extra_data.api_key_comfy_org` and the headers for ComfyUI reach ComfyUI and nobody else.
@Suite(.timeLimit(.minutes(5))) struct SecretTests {
    private static let key = "sk-marker-1f9a"

    @Test func theKeyIsForwardedAndNeitherAnsweredNorLogged() async throws {
        let log = InMemoryLogHandler()
        var logger = Logger(label: "test") { _ in log }
        logger.logLevel = .trace
        let extra: JSONObject = ["extra_data": ["api_key_comfy_org": .string(Self.key)]]
        // This version shows the whole of extra_data in its queue.
        try await withSimulator({ $0.compatibility = .v0_3_64 }) { simulator, port in
            try await withBridge([port], logger: logger) { bridge in
                var answers: [RunningBridge.Answer] = []
                func ask(_ method: HTTPMethod, _ path: String, body: JSON? = nil) async throws {
                    answers.append(try await bridge.send(method, path, body: body?.encoded()))
                }
                let running = try await bridge.submit(Graph.delay(milliseconds: 600_000), extra)
                while simulator.statistics.promptsRun.isEmpty { await Task.yield() }
                let queue = try await bridge.get("http://127.0.0.1:\(port)/queue").json
                #expect(queue["queue_running"]?[0]?[3]?["api_key_comfy_org"]?.string == Self.key)

                for path in ["", "/workflow"] { try await ask(.GET, "/api/v2/jobs/\(running)\(path)") }
                try await ask(.GET, "/api/v2/jobs")
                try await ask(.GET, "/readyz")
                try await ask(.POST, "/api/v2/jobs/\(running)/cancel")
                try await ask(.GET, "/api/v2/jobs/\(running)/events?native=1&last_event_id=0")
                try await ask(.POST, "/run", body: .object(extra.merging(["workflow": Graph.fails("no")]) { $1 }))
                try await ask(.POST, "/run", body: .object(extra.merging(["workflow": Graph.sampler(steps: 1)]) { $1 }))
                for refused: JSONObject in [
                    ["workflow": [:]], ["workflow": Graph.picture(), "priority": 1000], ["workflow": ["1": ["class_type": "Nope", "inputs": [:]]]],
                ] {
                    try await ask(.POST, "/api/v2/jobs", body: .object(extra.merging(refused) { $1 }))
                }
                try await ask(.POST, "/api/v2/jobs", body: ["workflow": Graph.picture(), "extra_data": ["api_key_comfy_org": [.string(Self.key)]]])
                try await ask(.GET, "/api/v2/jobs")
                #expect(answers.map(\.status) == [200, 200, 200, 200, 200, 200, 500, 200, 422, 422, 422, 422, 200])
                for answer in answers { #expect(!String(decoding: answer.body, as: UTF8.self).contains(Self.key)) }
                let ids = (try answers.last?.json["jobs"]?.array ?? []).compactMap { $0["id"]?.string }
                #expect(ids.count == 3)
                let text = log.entries.map { "\($0)" }.joined(separator: "\n")
                for id in ids { #expect(text.contains(id)) }
                #expect(log.entries.contains { $0.level <= .debug })
                #expect(!text.contains(Self.key))
            }
        }
    }

    @Test func headersForComfyUIAreInNoLogAndNoAnswer() async throws {
        let log = InMemoryLogHandler()
        var logger = Logger(label: "test") { _ in log }
        logger.logLevel = .trace
        try await withTemporaryFolder { folder in
            let file = "\(folder)/headers"
            try "X-File: file-marker-3c\n".write(toFile: file, atomically: true, encoding: .utf8)
            try await withSimulator { simulator, port in
                // The second is not there.
                let ports = [port, try await freePort()]
                let flags = [
                    "--comfyui-header", "X-Api-Key: key-marker-1a", "--comfyui-header", "http://127.0.0.1:\(port) Authorization: Bearer bearer-marker-2b",
                    "--comfyui-header-file", file, "--upstream-silence", "0.1",
                ]
                try await withBridge(ports, flags, logger: logger) { bridge in
                    var answers: [RunningBridge.Answer] = []
                    simulator.faults.arm(.error(401), only: "GET /queue", times: 1)
                    simulator.faults.arm(.cut(.node), times: 1)
                    simulator.faults.arm(.error(500), only: "HEAD /view", times: 1)
                    for graph in [Graph.picture(), Graph.delay(milliseconds: 300, failure: "no"), Graph.sampler(steps: 2)] {
                        answers.append(try await bridge.run(graph, query: "?outputs=base64"))
                    }
                    for path in ["/readyz", "/metrics", "/api/v2/jobs", "/api/v2/health"] { answers.append(try await bridge.get(path)) }
                    #expect(answers.map(\.status) == [200, 500, 200, 200, 200, 200, 200])
                    for answer in answers { #expect(!String(decoding: answer.body, as: UTF8.self).contains("-marker-")) }
                    let text = log.entries.map { "\($0)" }.joined(separator: "\n")
                    #expect(log.entries.contains { $0.level <= .debug } && text.contains("127.0.0.1:\(port)"))
                    #expect(!text.contains("-marker-"))
                }
            }
        }
    }
}
