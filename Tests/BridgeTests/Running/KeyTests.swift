import AsyncHTTPClient
import Foundation
import NIOHTTP1
import OrderedCollections
import OrderedJSON
import Simulator
import Testing

@testable import API
@testable import Jobs
@testable import TestSupport
@testable import Workers

/// What an `Idempotency-Key` leads to, over all that may become of its job.
@Suite(.timeLimit(.minutes(5))) struct KeyTests {
    private let key = [("Idempotency-Key", "k")]

    private func id(_ answer: RunningBridge.Answer) -> String? { answer.headers.first(name: "Comfy-Job-Id") }

    private func submit(_ workflow: JSON, to bridge: RunningBridge) async throws -> RunningBridge.Answer {
        try await bridge.send(.POST, "/api/v2/jobs", key, body: (["workflow": workflow] as JSON).encoded())
    }

    @Test("What passes is not repeated: ComfyUI is back", arguments: [false, true], [false, true])
    func unreachable(_ isRefusedAtOnce: Bool, _ isOnDisk: Bool) async throws {
        let port = try await freePort()
        try await withTemporaryFolder { folder in
            // With some grace the job is there first, unless the machine is very slow, and ends.
            let flags = ["--upstream-grace", isRefusedAtOnce ? "0" : "2"] + (isOnDisk ? ["--data-dir", folder] : [])
            try await withBridge([port], flags, waitUntilReady: false) { bridge in
                let away = try await bridge.run(Graph.picture(), key)
                #expect(away.status == 503 && away.errorCode == "upstream_unreachable")
                #expect(!isRefusedAtOnce || id(away) == nil)
                try await withSimulator({ $0.port = port }) { simulator, _ in
                    try await bridge.untilReady()
                    async let first = bridge.run(Graph.picture(), key)
                    async let second = bridge.run(Graph.picture(), key)
                    let (a, b) = (try await first, try await second)
                    #expect(a.status == 200 && b.status == 200)
                    #expect(id(a) == id(b) && id(a) != id(away), "two retries at once make one new job")
                    let again = try await bridge.run(Graph.picture(), key)
                    #expect(id(again) == id(a) && simulator.statistics.promptsAccepted == 1)
                    if let old = id(away) {
                        let job = try await bridge.job(old)
                        #expect(job["error"]?["code"] == "upstream_unreachable", "the old job is still there")
                    }
                }
            }
        }
    }

    @Test func aCallerThatIsCutOffComesBackToItsJob() async throws {
        try await withBridge { bridge, simulator in
            let cut = Task { try await bridge.run(Graph.delay(milliseconds: 600), key) }
            try await simulator.firstRun()
            cut.cancel()
            _ = await cut.result
            let again = try await bridge.run(Graph.delay(milliseconds: 600), key)
            #expect(again.status == 200 && id(again) == simulator.statistics.promptsRun.keys.first)
            #expect(simulator.statistics.promptsAccepted == 1)
        }
    }

    @Test(
        "A key is free after a cancel that only the cut caused, and used up by an explicit one",
        arguments: [
            (false, false, false), (false, false, true), (false, true, false), (true, false, false), (true, true, true),
        ])
    func canceled(_ isExplicit: Bool, _ isOnDisk: Bool, _ isStream: Bool) async throws {
        try await withTemporaryFolder { folder in
            try await withBridge(isOnDisk ? ["--data-dir", folder] : []) { bridge, simulator in
                let headers = key + (isStream ? [("Accept", "text/event-stream")] : [])
                let caller = Task { try await bridge.run(Graph.delay(milliseconds: 600_000), query: "?on_disconnect=cancel", headers) }
                let old = try await simulator.firstRun()
                if isExplicit { _ = try await bridge.send(.POST, "/api/v2/jobs/\(old)/cancel") }
                caller.cancel()
                _ = await caller.result
                let events = try await bridge.events(of: old)
                #expect(events.last?.json["status"] == "canceled")
                #expect(events.last?.json["error"]?["message"]?.string?.contains("hung up") == !isExplicit)
                let again = try await bridge.run(Graph.delay(milliseconds: 600_000), query: "?on_disconnect=cancel", key + [("Prefer", "respond-async")])
                #expect(again.status == 202)
                #expect((id(again) == old) == isExplicit)
                _ = try await bridge.send(.POST, "/api/v2/jobs/\(id(again) ?? "")/cancel")
            }
        }
    }

    @Test("A retry while the job is still being canceled is a new job", arguments: [true, false]) func canceling(_ isQueued: Bool) async throws {
        try await withBridge { bridge, simulator in
            var others: [String?] = [nil]
            if isQueued {
                for seed in 1...2 { others.append(try await bridge.submit(Graph.delay(milliseconds: 600_000, seed: seed))) }
                try await simulator.accepted(2)
            }
            let graph = Graph.delay(milliseconds: 600_000, seed: 9)
            let caller = Task { try await bridge.run(graph, query: "?on_disconnect=cancel", key) }
            var newest: String?
            try await bridge.until("the caller's job is there") {
                newest = try await $0.get("/api/v2/jobs?limit=1").json["jobs"]?[0]?["id"]?.string
                return !others.contains(newest)
            }
            let old = try #require(newest)
            if !isQueued { try await bridge.untilRunning(old) }
            caller.cancel()
            _ = await caller.result
            try await bridge.events(of: old, until: { ["canceling", "canceled"].contains($0.json["status"]?.string) })
            let again = try await bridge.run(graph, key + [("Prefer", "respond-async")])
            #expect(again.status == 202 && id(again) != old)
        }
    }

    @Test func aFailureThatTheWorkflowMadeIsTold() async throws {
        try await withBridge { bridge, simulator in
            let first = try await bridge.run(Graph.fails("boom"), key)
            let second = try await bridge.run(Graph.fails("boom"), key)
            #expect(first.errorCode == "node_execution_error" && second.errorCode == "node_execution_error" && id(first) == id(second))
            #expect(simulator.statistics.promptsAccepted == 1)
        }
    }

    /// Those that are attached to a job when it fails hear of that; the first that asks afterwards makes the next one.
    @Test func callersOfAJobThatIsLostAreToldAndTheNextOneIsNew() async throws {
        try await withBridge(["--retries", "0"]) { bridge, simulator in
            let graph = Graph.delay(milliseconds: 600_000)
            async let first = bridge.run(graph, key)
            let old = try await simulator.firstRun()
            let second = try await bridge.open(.POST, "/run", key + [("Accept", "text/event-stream")], body: graph.encoded())
            #expect(second.headers.first(name: "Comfy-Job-Id") == old)
            try await bridge.events(of: old, until: { $0.json["status"] == "running" })
            try await simulator.perform(.restart(after: .zero, keepsFiles: true))
            let answer = try await first
            #expect(answer.status == 502 && answer.errorCode == "upstream_lost" && id(answer) == old)
            let events = try await bridge.events(second)
            #expect(events.last?.json["error"]?["code"] == "upstream_lost")
            let next = try await bridge.run(Graph.picture(), key)
            #expect(next.status == 200 && id(next) != old, "a key that is free is free for anything")
        }
    }

    @Test(
        "Across a restart keys are as free as before",
        arguments: [
            ("succeeded", false), ("failed", false), ("cut", true), ("canceled", false), ("lost", true),
        ])
    func restart(_ end: String, _ isFree: Bool) async throws {
        try await withTemporaryFolder { folder in
            let flags = ["--data-dir", folder, "--retries", "0"]
            try await withSimulator { simulator, port in
                var old: String?
                let graph = end == "succeeded" ? Graph.picture() : end == "failed" ? Graph.fails("boom") : Graph.delay(milliseconds: 600_000)
                try await withBridge([port], flags) { bridge in
                    let caller = Task { try await bridge.run(graph, query: "?on_disconnect=cancel", key) }
                    old = try await simulator.firstRun()
                    switch end {
                    case "cut": caller.cancel()
                    case "canceled": _ = try await bridge.send(.POST, "/api/v2/jobs/\(old ?? "")/cancel")
                    case "lost":
                        try await bridge.events(of: old ?? "", until: { $0.json["status"] == "running" })
                        try await simulator.perform(.restart(after: .zero, keepsFiles: true))
                    default: break
                    }
                    _ = await caller.result
                    try await bridge.events(of: old ?? "")
                }
                try await withBridge([port], flags) { bridge in
                    // The resource API's keys serve once, whatever became of their job, and name it.
                    let resource = try await submit(graph, to: bridge)
                    #expect(resource.status == 422 && resource.errorCode == "idempotency_key_reuse")
                    let named = try resource.json["error"]?["details"]?["job_id"]?.string
                    #expect(named == old)
                    let answers = try await withThrowingTaskGroup(of: RunningBridge.Answer.self) { group in
                        for _ in 0..<2 { group.addTask { try await bridge.run(graph, query: "?on_disconnect=cancel", key + [("Prefer", "respond-async")]) } }
                        return try await group.reduce(into: []) { $0.append($1) }
                    }
                    #expect(answers.allSatisfy { $0.status == 202 })
                    #expect(Set(answers.map(id)).count == 1)
                    #expect((id(answers[0]) != old) == isFree)
                    _ = try await bridge.send(.POST, "/api/v2/jobs/\(id(answers[0]) ?? "")/cancel")
                }
            }
        }
    }

    @Test("A reused key names what it made", arguments: [true, false]) func reuse(_ isOnDisk: Bool) async throws {
        try await withTemporaryFolder { folder in
            try await withSimulator { _, port in
                var job: String?, asset: String?
                func expectNamed(_ bridge: RunningBridge) async throws {
                    let again = try await submit(Graph.picture(), to: bridge)
                    #expect(again.status == 422 && again.errorCode == "idempotency_key_reuse")
                    let found = try again.json["error"]?["details"]?["job_id"]?.string
                    #expect(found == job)
                    let other = try await bridge.run(Graph.picture(seed: 2), key)
                    let named = try other.json["error"]?["details"]?["job_id"]?.string
                    #expect(other.status == 422 && named == job)
                    let upload = try await bridge.upload([2], ["file_path": "b"], key)
                    let uploaded = try upload.json["error"]?["details"]?["asset_id"]?.string
                    #expect(upload.status == 422 && uploaded == asset)
                }
                let flags = isOnDisk ? ["--data-dir", folder] : []
                try await withBridge([port], flags) { bridge in
                    job = try await submit(Graph.picture(), to: bridge).json["id"]?.string
                    asset = try await bridge.upload([1], ["file_path": "a"], key).json["id"]?.string
                    #expect(job != nil && asset != nil)
                    try await expectNamed(bridge)
                }
                if isOnDisk { try await withBridge([port], flags) { try await expectNamed($0) } }
            }
        }
    }

    @Test func keysOfTheResourceAPIServeOnceEvenAtTheSameMoment() async throws {
        try await withBridge { bridge, simulator in
            let answers = try await withThrowingTaskGroup(of: RunningBridge.Answer.self) { group in
                for _ in 0..<8 { group.addTask { try await submit(Graph.picture(), to: bridge) } }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            let made = answers.filter { $0.status == 201 }
            #expect(made.count == 1)
            let job = try made[0].json["id"]
            for other in answers where other.status != 201 {
                let named = try other.json["error"]?["details"]?["job_id"]
                #expect(named == job)
            }
            try await bridge.events(of: job?.string ?? "")
            #expect(simulator.statistics.promptsAccepted == 1)
        }
    }
}
