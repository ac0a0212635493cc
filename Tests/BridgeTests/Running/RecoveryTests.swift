import AsyncHTTPClient
import ComfyUI
import Foundation
import Logging
import NIOCore
import NIOHTTP1
import OrderedCollections
import OrderedJSON
import Simulator
import Testing

@testable import Bridge

func withTemporaryFolder(_ body: (String) async throws -> Void) async throws {
    let folder = NSTemporaryDirectory() + "comfy-bridge-tests-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try await body(folder)
}

func filesIn(_ folder: String) -> [String] { ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []).sorted() }

/// ComfyUI away, restarted, or several of them.
@Suite(.timeLimit(.minutes(5))) struct RecoveryTests {
    @Test func withoutComfyUICallersAreToldSo() async throws {
        try await withBridge([try await freePort()], ["--upstream-grace", "0.2"], waitUntilReady: false) { bridge in
            let answer = try await bridge.run(Graph.picture())
            #expect(answer.status == 503)
            #expect(answer.errorCode == "upstream_unreachable")
            #expect(answer.headers.first(name: "Retry-After") != nil)
            let ready = try await bridge.get("/readyz")
            #expect(ready.status == 503)
            #expect(try ready.json["comfyui"]?[0]?["connected"] == false)
            #expect(try await bridge.get("/api/v2/health").status == 200)
        }
    }

    @Test func aJobWaitsForAComfyUIThatIsJustStarting() async throws {
        let port = try await freePort()
        try await withBridge([port], waitUntilReady: false) { bridge in
            let caller = Task { try await bridge.run(Graph.picture()) }
            try await withSimulator({ $0.port = port }) { _, _ in
                let answer = try await caller.value
                #expect(answer.status == 200)
            }
        }
    }

    @Test func aRunLostInARestartIsRunAgain() async throws {
        try await withTemporaryFolder { folder in
            let port = try await freePort()
            try await withSimulator({ $0.directory = folder; $0.port = port; $0.stepDelay = .seconds(600) }) { first, _ in
                try await withBridge([port]) { bridge in
                    let caller = Task { try await bridge.run(Graph.sampler(steps: 1)) }
                    while first.statistics.promptsRun.isEmpty { await Task.yield() }
                    let id = try #require(first.statistics.promptsRun.keys.first)
                    try await bridge.events(of: id, until: { $0.json["status"] == "running" })
                    await first.stop()
                    try await withSimulator({ $0.directory = folder; $0.port = port }) { second, _ in
                        let job = try await caller.value
                        #expect(job.status == 200)
                        #expect(try job.json["id"]?.string == id)
                        #expect(try job.json["outputs"]?.array?.count == 1)
                        #expect(second.statistics.promptsRun == [id: 1])
                        let logs = try await bridge.events(of: id, query: "?last_event_id=0").filter { $0.name == "log" }
                        #expect(logs.count == 1)
                    }
                }
            }
        }
    }

    @Test func aRunThatIsLostTooOftenFails() async throws {
        let port = try await freePort()
        try await withSimulator({ $0.port = port }) { first, _ in
            try await withBridge([port], ["--retries", "0"]) { bridge in
                let caller = Task { try await bridge.run(Graph.delay(milliseconds: 60_000)) }
                while first.statistics.promptsRun.isEmpty { await Task.yield() }
                let id = try #require(first.statistics.promptsRun.keys.first)
                try await bridge.events(of: id, until: { $0.json["status"] == "running" })
                await first.stop()
                try await withSimulator({ $0.port = port }) { second, _ in
                    let answer = try await caller.value
                    #expect(answer.status == 502)
                    #expect(answer.errorCode == "upstream_lost")
                    #expect(second.statistics.promptsAccepted == 0)
                }
            }
        }
    }

    @Test func severalComfyUIsShareTheQueue() async throws {
        try await withSimulator { first, firstPort in
            try await withSimulator { second, secondPort in
                try await withBridge([firstPort, secondPort]) { bridge in
                    while try await bridge.get("/readyz").json["comfyui"]?.array?.allSatisfy({ $0["connected"] == true }) != true { await Task.yield() }
                    try await withThrowingTaskGroup(of: Int.self) { group in
                        for seed in 1...4 { group.addTask { try await bridge.run(Graph.delay(milliseconds: 300, seed: seed)).status } }
                        for try await status in group { #expect(status == 200) }
                    }
                    #expect(first.statistics.promptsAccepted > 0)
                    #expect(second.statistics.promptsAccepted > 0)
                    #expect(first.statistics.promptsAccepted + second.statistics.promptsAccepted == 4)
                }
            }
        }
    }

    @Test func aSocketThatComfyUIForgotIsReplaced() async throws {
        try await withSimulator { _, port in
            try await withBridge([port], ["--upstream-silence", "0.3"]) { bridge in
                let first = try await bridge.submit(Graph.delay(milliseconds: 1500))
                var clientID: String?
                while clientID == nil {
                    clientID = try await bridge.get("http://127.0.0.1:\(port)/queue").json["queue_running"]?[0]?[3]?["client_id"]?.string
                }
                // A second socket under the same id takes over; when it goes, ComfyUI sends to neither.
                let (connected, continuation) = AsyncStream.makeStream(of: Void.self)
                let usurper = EventSocket(
                    configuration: .init(endpoint: try ComfyEndpoint("http://127.0.0.1:\(port)"), clientID: clientID ?? ""),
                    eventLoopGroup: HTTPClient.defaultEventLoopGroup, logger: Logger(label: "usurper") { _ in SwiftLogNoOpLogHandler() },
                    onEvent: { if case .connected = $0 { continuation.yield() } })
                let usurping = Task { await usurper.run() }
                for await _ in connected { break }
                usurping.cancel()
                await usurping.value

                let events = try await bridge.events(of: first)
                #expect(events.last?.json["status"] == "succeeded")
                #expect(events.filter { $0.name == "output" }.count == 1)
                // Soon a connection is registered again, and everything comes over it. Without one this never ends.
                var previews = 0
                var seed = 0
                while previews < 3 {
                    seed += 1
                    let next = try await bridge.submit(Graph.sampler(steps: 3, seed: "\(seed)"))
                    previews = try await bridge.events(of: next, query: "?last_event_id=0").count { $0.name == "preview" }
                }
            }
        }
    }

    @Test func aStopDoesNotLeaveBehindWhatWasBeingTakenBack() async throws {
        try await withSimulator { _, port in
            try await withBridge([port]) { bridge in
                let answer = try await bridge.run(Graph.delay(milliseconds: 600_000), query: "?timeout=0.1")
                #expect(answer.status == 504)
            }
            let simulator = RunningBridge(base: "http://127.0.0.1:\(port)")
            while try await simulator.get("/queue").json["queue_running"]?.array?.isEmpty != true { await Task.yield() }
        }
    }

    @Test func somebodyElsesInterruptIsSaid() async throws {
        try await withSimulator { simulator, port in
            try await withBridge([port]) { bridge in
                let caller = Task { try await bridge.run(Graph.delay(milliseconds: 60_000)) }
                while simulator.statistics.promptsRun.isEmpty { await Task.yield() }
                while true {
                    _ = try await bridge.send(.POST, "http://127.0.0.1:\(port)/interrupt")
                    let id = try #require(simulator.statistics.promptsRun.keys.first)
                    if try await bridge.job(id)["status"] == "canceled" { break }
                }
                let answer = try await caller.value
                #expect(answer.status == 409)
                #expect(answer.errorCode == "canceled")
            }
        }
    }

    @Test func aPromptThatSomebodyDeletedIsRunAgain() async throws {
        try await withSimulator { simulator, port in
            try await withBridge([port], ["--upstream-silence", "0.2"]) { bridge in
                let blocker = try await bridge.submit(Graph.delay(milliseconds: 60_000))
                let waiting = try await bridge.submit(Graph.picture())
                while simulator.statistics.promptsAccepted < 2 { await Task.yield() }
                _ = try await bridge.send(.POST, "http://127.0.0.1:\(port)/queue", body: Array(#"{"clear": true}"#.utf8))
                while simulator.statistics.promptsAccepted < 3 { await Task.yield() }
                _ = try await bridge.send(.POST, "/api/v2/jobs/\(blocker)/cancel")
                #expect(try await bridge.events(of: waiting).last?.json["status"] == "succeeded")
            }
        }
    }
}
