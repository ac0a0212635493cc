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

@testable import API
@testable import Jobs
@testable import TestSupport
@testable import Workers

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

    @Test func whoComesBackIsFoundByTheNextCallerWhateverTheBackoff() async throws {
        let port = try await freePort()
        // The grace is over long before ComfyUI is there; each round makes the back-off longer, which nobody's waiting cuts short.
        try await withBridge([port], ["--upstream-grace", "0.01"], waitUntilReady: false) { bridge in
            for _ in 1...3 {
                try await bridge.until(isConnected: false)
                #expect(try await bridge.run(Graph.picture()).status == 503)
                try await withSimulator({ $0.port = port }) { _, _ in
                    let answer = try await bridge.run(Graph.picture())
                    #expect(answer.status == 200)
                }
            }
        }
    }

    @Test func viewersHearOfTheLossAndTheReturnOfComfyUI() async throws {
        let port = try await freePort()
        try await withBridge([port], ["--upstream-silence", "600"], waitUntilReady: false) { bridge in
            func messages(_ id: String, until isWanted: (String) -> Bool) async throws -> [String] {
                try await bridge.events(of: id, query: "?last_event_id=0") { isWanted($0.json["message"]?.string ?? "") }
                    .filter { $0.name == "log" }.compactMap { $0.json["message"]?.string }
            }
            // It came while there was no ComfyUI at all.
            let early = try await bridge.submit(Graph.picture())
            #expect(try await messages(early) { $0.contains("cannot be reached") }.count == 1)
            var ids: [String] = []
            try await withSimulator({ $0.port = port }) { simulator, _ in
                #expect(try await bridge.events(of: early, query: "?last_event_id=0").last?.json["status"] == "succeeded")
                #expect(try await messages(early) { $0 == "ComfyUI is back." }.count == 2)
                // Running, waiting in ComfyUI, waiting in the bridge.
                for seed in 1...3 { ids.append(try await bridge.submit(Graph.delay(milliseconds: 600_000, seed: seed))) }
                try await simulator.accepted(3)
            }
            for id in ids { #expect(try await messages(id) { $0.contains("cannot be reached") }.count == 1) }
            try await withSimulator({ $0.port = port }) { _, _ in
                for id in ids { #expect(try await messages(id) { $0 == "ComfyUI is back." }.count >= 2) }
                for id in ids { _ = try await bridge.send(.POST, "/api/v2/jobs/\(id)/cancel") }
            }
        }
    }

    @Test func aBlockedCallerIsToldAfterTheGraceThatComfyUIDied() async throws {
        let port = try await freePort()
        // Nothing but the grace can tell: neither silence nor another run.
        try await withBridge([port], ["--upstream-silence", "600", "--upstream-grace", "0.3", "--retries", "9"], waitUntilReady: false) { bridge in
            var kept: [String] = []
            var callers: [RunningBridge.Answer] = []
            try await withThrowingTaskGroup(of: RunningBridge.Answer.self) { group in
                try await withSimulator({ $0.port = port }) { simulator, _ in
                    try await bridge.untilReady()
                    kept.append(try await bridge.submit(Graph.delay(milliseconds: 600_000)))
                    try await bridge.events(of: kept[0], until: { $0.json["status"] == "running" })
                    // One waits inside ComfyUI, one in the bridge.
                    for seed in 2...3 { group.addTask { try await bridge.run(Graph.delay(milliseconds: 600_000, seed: seed)) } }
                    try await simulator.accepted(2)
                    try await bridge.until("1 wait in the bridge") { try await $0.get("/readyz").json["queued_jobs"] == 1 }
                    kept.append(try await bridge.submit(Graph.picture()))
                }
                for try await answer in group { callers.append(answer) }
            }
            for answer in callers {
                #expect(answer.status == 503)
                #expect(answer.errorCode == "upstream_unreachable")
            }
            // Nobody blocks for these.
            for id in kept {
                let status = try await bridge.job(id)["status"]?.string
                #expect(status == "queued" || status == "running")
            }
            try await withSimulator({ $0.port = port }) { simulator, _ in
                _ = try await bridge.send(.POST, "/api/v2/jobs/\(kept[0])/cancel")
                #expect(try await bridge.events(of: kept[0]).last?.json["status"] == "canceled")
                #expect(try await bridge.events(of: kept[1]).last?.json["status"] == "succeeded")
                #expect(simulator.statistics.promptsRun.keys.allSatisfy(kept.contains))
            }
        }
    }

    /// Nobody blocks for them: they are kept, as many as the queue may hold, also by a bridge that has never seen a ComfyUI, and by the next one.
    @Test("Without ComfyUI the queue takes work", arguments: [false, true]) func queue(_ isRestarted: Bool) async throws {
        let port = try await freePort()
        try await withTemporaryFolder { folder in
            let flags = ["--upstream-grace", "0", "--queue-limit", "4", "--data-dir", folder]
            var ids: [String] = []
            func submitAll(_ bridge: RunningBridge) async throws {
                let blocked = try await bridge.run(Graph.picture())
                #expect(blocked.errorCode == "upstream_unreachable")
                for preference in ["wait=5", "wait=5, return=minimal"] {
                    let blocked = try await bridge.run(Graph.picture(), query: "?on_disconnect=continue", [("Prefer", preference)])
                    #expect(blocked.errorCode == "upstream_unreachable", "it blocks, if not for long")
                }
                let stream = try await bridge.run(Graph.picture(), [("Accept", "text/event-stream")])
                #expect(stream.errorCode == "upstream_unreachable")
                // A file that is uploaded is found by its name, and a class that turns out not to exist is named.
                _ = try await bridge.upload([1, 2, 3], ["file_path": "late.png"])
                ids.append(try await bridge.submit(Graph.picture()))
                let asynchronous = try await bridge.run(Graph.picture(seed: 2), [("Prefer", "respond-async"), ("Accept", "image/png")])
                #expect(asynchronous.status == 202)
                ids.append(try asynchronous.json["id"]?.string ?? "")
                var unknown = try #require(Graph.picture().object)
                unknown["7"] = ["class_type": "NoSuchClass", "inputs": [:]]
                ids.append(try await bridge.submit(.object(unknown)))
                ids.append(
                    try await bridge.submit([
                        "1": ["class_type": "LoadImage", "inputs": ["image": "../../etc/x.png"]],
                        "2": ["class_type": "SaveImage", "inputs": ["images": ["1", 0], "filename_prefix": "t"]],
                    ]))
                let full = try await bridge.send(.POST, "/api/v2/jobs", body: (["workflow": Graph.picture()] as JSON).encoded())
                #expect(full.status == 429 && full.errorCode == "queue_full")
                let why = try await bridge.get("/api/v2/jobs/\(ids[1])/why").json
                #expect(why["reason"] == "comfyui_unreachable" && why["message"]?.string?.contains("The job runs when it is back") == true)
            }
            func expectEnds(_ bridge: RunningBridge) async throws {
                try await withSimulator({ $0.port = port }) { simulator, _ in
                    var ends: [JSON] = []
                    for id in ids { ends.append(try await bridge.events(of: id).last?.json ?? .null) }
                    #expect(ends[0]["status"] == "succeeded" && ends[1]["status"] == "succeeded")
                    #expect(ends[2]["error"]?["code"] == "invalid_workflow")
                    #expect(ends[2]["error"]?["details"]?["node_errors"]?["7"]?[0]?["reason"] == "missing_node_type")
                    #expect(ends[3]["error"]?["details"]?["node_errors"]?["1"]?[0]?["reason"] == "unsafe_path")
                    #expect(simulator.statistics.promptsAccepted == 2, "ComfyUI was not asked about what the bridge knows")
                }
            }
            try await withBridge([port], flags, waitUntilReady: false) { bridge in
                try await submitAll(bridge)
                if !isRestarted { try await expectEnds(bridge) }
            }
            if isRestarted { try await withBridge([port], flags, waitUntilReady: false) { try await expectEnds($0) } }
        }
    }

    @Test func aFileThatIsNamedByAJobThatWaitedIsBroughtToComfyUI() async throws {
        let port = try await freePort()
        try await withBridge([port], ["--upstream-grace", "0"], waitUntilReady: false) { bridge in
            _ = try await bridge.upload(Array("not a picture".utf8), ["file_path": "late.png"])
            let id = try await bridge.submit([
                "1": ["class_type": "LoadImage", "inputs": ["image": "late.png"]],
                "2": ["class_type": "SaveImage", "inputs": ["images": ["1", 0], "filename_prefix": "t"]],
            ])
            try await withSimulator({ $0.port = port }) { _, _ in
                // It is there, though not a picture; a file that is not there would be refused before the run.
                let end = try await bridge.events(of: id).last?.json
                #expect(end?["error"]?["code"] == "node_execution_error")
            }
        }
    }

    /// Classes are checked against every ComfyUI that is known when the grace of the others is over.
    @Test func aJobThatNoneOfSeveralComfyUIsCanRunEnds() async throws {
        let (port, other) = (try await freePort(), try await freePort())
        try await withBridge([port, other], ["--upstream-grace", "0.5"], waitUntilReady: false) { bridge in
            let id = try await bridge.submit(["1": ["class_type": "NoSuchClass", "inputs": [:]]])
            try await withSimulator({ $0.port = port }) { _, _ in
                let end = try await bridge.events(of: id).last?.json
                #expect(end?["error"]?["code"] == "invalid_workflow" && end?["error"]?["details"]?["node_errors"]?["1"] != nil)
            }
        }
    }

    /// The job was promised to somebody: it waits for ComfyUI, and its blocked caller does not.
    @Test func aCallerThatBlocksForAJobThatWaitsIsTurnedAway() async throws {
        let port = try await freePort()
        let key = [("Idempotency-Key", "k")]
        try await withBridge([port], ["--upstream-grace", "0.5"], waitUntilReady: false) { bridge in
            let promised = try await bridge.run(Graph.picture(), key + [("Prefer", "respond-async")])
            #expect(promised.status == 202)
            let id = promised.headers.first(name: "Comfy-Job-Id")
            let turnedAway = try await bridge.run(Graph.picture(), query: "?on_disconnect=cancel", key)
            #expect(turnedAway.status == 503 && turnedAway.errorCode == "upstream_unreachable")
            #expect(turnedAway.headers.first(name: "Comfy-Job-Id") == id && turnedAway.headers.first(name: "Location") != nil)
            try await withSimulator({ $0.port = port }) { _, _ in
                let answer = try await bridge.run(Graph.picture(), key)
                #expect(answer.status == 200 && answer.headers.first(name: "Comfy-Job-Id") == id)
            }
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
            try await withSimulator({
                $0.directory = folder; $0.port = port; $0.stepDelay = .seconds(600)
            }) { first, _ in
                try await withBridge([port]) { bridge in
                    let caller = Task { try await bridge.run(Graph.sampler(steps: 1)) }
                    let id = try await first.firstRun()
                    try await bridge.untilRunning(id)
                    await first.stop()
                    try await withSimulator({
                        $0.directory = folder; $0.port = port
                    }) { second, _ in
                        let job = try await caller.value
                        #expect(job.status == 200)
                        #expect(try job.json["id"]?.string == id)
                        #expect(try job.json["outputs"]?.array?.count == 1)
                        #expect(second.statistics.promptsRun == [id: 1])
                        let logs = try await bridge.events(of: id, query: "?last_event_id=0").filter { $0.name == "log" }.compactMap { $0.json["message"]?.string }
                        #expect(logs.count == 3)
                        #expect(logs.first?.contains("cannot be reached any more") == true)
                        #expect(logs.dropFirst().contains("ComfyUI is back.") && logs.contains { $0.contains("it is run again") })
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
                let id = try await first.firstRun()
                try await bridge.untilRunning(id)
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
                    try await bridge.waitUntilAllAreReady()
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
        try await withSimulator { simulator, port in
            try await withBridge([port]) { bridge in
                let answer = try await bridge.run(Graph.delay(milliseconds: 600_000), query: "?timeout=0.1")
                #expect(answer.status == 504)
            }
            try await simulator.until("nothing is left inside ComfyUI", \.isIdle)
        }
    }

    @Test func somebodyElsesInterruptIsSaid() async throws {
        try await withSimulator { simulator, port in
            try await withBridge([port]) { bridge in
                let caller = Task { try await bridge.run(Graph.delay(milliseconds: 60_000)) }
                try await bridge.untilRunning(try await simulator.firstRun())
                _ = try await bridge.send(.POST, "http://127.0.0.1:\(port)/interrupt")
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
                try await simulator.accepted(2)
                _ = try await bridge.send(.POST, "http://127.0.0.1:\(port)/queue", body: Array(#"{"clear": true}"#.utf8))
                try await simulator.accepted(3)
                _ = try await bridge.send(.POST, "/api/v2/jobs/\(blocker)/cancel")
                #expect(try await bridge.events(of: waiting).last?.json["status"] == "succeeded")
            }
        }
    }
}
