import NIOHTTP1
import OrderedCollections
import OrderedJSON
import Simulator
import Testing

@testable import API
@testable import Jobs
@testable import TestSupport
@testable import Workers

/// The list of jobs, their order in the queue, and what a job says of itself.
@Suite(.timeLimit(.minutes(5))) struct JobListingTests {
    private func ids(_ page: JSON) -> [String] { (page["jobs"]?.array ?? []).compactMap { $0["id"]?.string } }

    @Test func theListIsPagedAndFiltered() async throws {
        try await withBridge { bridge, simulator in
            let running = try await bridge.submit(Graph.delay(milliseconds: 600_000), ["metadata": ["user": "anna", "order": 4711]])
            try await bridge.events(of: running, until: { $0.json["status"] == "running" })
            var queued: [String] = []
            for seed in 2...5 {
                queued.append(try await bridge.submit(Graph.delay(milliseconds: 600_000, seed: seed), ["metadata": ["user": "bert", "seed": JSON(seed)]]))
            }
            _ = try await bridge.send(.POST, "/api/v2/jobs/\(queued[3])/cancel")

            let all = try await bridge.get("/api/v2/jobs").json
            #expect(ids(all) == queued.reversed() + [running])
            #expect(all["truncated"] == false)
            #expect(all["next_cursor"] == nil)
            let item = try #require(all["jobs"]?[0])
            #expect(item["create_time"] == item["created_at"])
            #expect(item["update_time"] == item["completed_at"])
            var members = try #require(try await bridge.job(queued[3]).object)
            members["create_time"] = item["create_time"]
            members["update_time"] = item["update_time"]
            #expect(item.object == members)

            let first = try await bridge.get("/api/v2/jobs?limit=2").json
            #expect(ids(first) == [queued[3], queued[2]])
            #expect(first["truncated"] == true)
            // A new job moves nothing.
            let new = try await bridge.submit(Graph.picture())
            let cursor = try #require(first["next_cursor"]?.string)
            let second = try await bridge.get("/api/v2/jobs?limit=3&cursor=\(cursor)").json
            #expect(ids(second) == [queued[1], queued[0], running])
            #expect(second["truncated"] == false)

            #expect(ids(try await bridge.get("/api/v2/jobs?status=canceled").json) == [queued[3]])
            #expect(ids(try await bridge.get("/api/v2/jobs?status=running,canceled").json) == [queued[3], running])
            #expect(ids(try await bridge.get("/api/v2/jobs?status=expired").json).isEmpty)
            #expect(ids(try await bridge.get("/api/v2/jobs?metadata%5Buser%5D=bert&limit=1&status=queued").json) == [queued[2]])
            #expect(ids(try await bridge.get("/api/v2/jobs?metadata[order]=4711").json) == [running])
            #expect(ids(try await bridge.get("/api/v2/jobs?metadata[user]=bert&metadata[seed]=3").json) == [queued[1]])
            #expect(!ids(try await bridge.get("/api/v2/jobs?metadata[user]=nobody").json).contains(new))
            for (query, code) in [("cursor=x", "invalid_cursor"), ("metadata[]=x", "invalid_metadata_filter"), ("limit=0", "invalid_parameter"), ("status=x", "invalid_parameter")] {
                let answer = try await bridge.get("/api/v2/jobs?\(query)")
                #expect(answer.status == 400)
                #expect(answer.errorCode == code)
            }
        }
    }

    @Test func aRefusedJobIsNotListed() async throws {
        try await withBridge(["--queue-limit", "1"]) { bridge, simulator in
            for seed in 1...2 { _ = try await bridge.submit(Graph.delay(milliseconds: 600_000, seed: seed)) }
            try await simulator.accepted(2)
            _ = try await bridge.submit(Graph.picture())
            #expect(try await bridge.run(Graph.picture()).status == 429)
            #expect(ids(try await bridge.get("/api/v2/jobs").json).count == 3)
        }
    }

    @Test func theQueueGoesByPriority() async throws {
        try await withSimulator { simulator, port in
            try await withBridge([port]) { bridge in
                let first = try await bridge.submit(Graph.delay(milliseconds: 600_000))
                let second = try await bridge.submit(Graph.delay(milliseconds: 600_000, seed: 2))
                try await simulator.accepted(2)
                var jobs: [String] = []
                for (seed, priority) in [0, 5, -5, 5, 0].enumerated() {
                    jobs.append(try await bridge.submit(Graph.picture(seed: seed), ["priority": JSON(priority)]))
                }
                let run = try await bridge.run(Graph.picture(seed: 9), query: "?priority=100", [("Prefer", "respond-async")])
                #expect(try run.json["priority"] == 100)
                let wrapped = try await bridge.run(["workflow": Graph.picture(seed: 10), "priority": -100], query: "?priority=100", [("Prefer", "respond-async")])
                #expect(try wrapped.json["priority"] == -100)
                jobs += [run, wrapped].compactMap { $0.headers.first(name: "Comfy-Job-Id") }
                var positions: [Int?] = []
                for id in jobs { positions.append(try await bridge.job(id)["queue_position"]?.int) }
                #expect(positions == [3, 1, 5, 2, 4, 0, 6])
                for id in [first, second] { _ = try await bridge.send(.POST, "/api/v2/jobs/\(id)/cancel") }
                for id in jobs { try await bridge.events(of: id) }
                let history = try await bridge.get("http://127.0.0.1:\(port)/history").json.object?.keys.filter(jobs.contains)
                #expect(history == [5, 1, 3, 0, 4, 2, 6].map { jobs[$0] })
            }
        }
    }

    @Test("A priority out of bounds is refused", arguments: ["101", "-101", "1.5", #""5""#, "true", "[1]"])
    func badPriority(_ value: String) async throws {
        try await withBridge { bridge, _ in
            let body: JSON = ["workflow": Graph.picture(), "priority": try JSON(parsing: value)]
            for path in ["/api/v2/jobs", "/run"] {
                let answer = try await bridge.send(.POST, path, body: body.encoded())
                #expect(answer.status == 422)
                #expect(answer.errorCode == "invalid_request")
                #expect(try answer.json["error"]?["details"]?["field"] == "priority")
            }
        }
    }

    @Test("The same in the query", arguments: ["101", "1.5", "high", ""]) func badPriorityParameter(_ value: String) async throws {
        try await withBridge { bridge, _ in
            let answer = try await bridge.run(Graph.picture(), query: "?priority=\(value)")
            #expect(answer.status == 400)
            #expect(answer.errorCode == "invalid_parameter")
            #expect(try answer.json["error"]?["details"]?["parameter"] == "priority")
        }
    }

    @Test func whatComesFromTheCacheIsSaid() async throws {
        try await withBridge { bridge, _ in
            let reused = try await ["same", "same", "other"].asyncMap { prefix in
                var graph = try #require(Graph.picture().object)
                graph["2"] = ["class_type": "SaveImage", "inputs": ["images": ["1", 0], "filename_prefix": .string(prefix)]]
                let job = try await bridge.run(.object(graph)).json
                #expect(job["outputs"]?.array?.count == 1)
                return job["outputs_reused"]
            }
            #expect(reused == [false, true, false])
        }
    }

    @Test func metricsFitEveryEnd() async throws {
        try await withBridge { bridge, simulator in
            let running = try await bridge.submit(Graph.delay(milliseconds: 600_000))
            try await bridge.events(of: running, until: { $0.json["status"] == "running" })
            let inside = try await bridge.submit(Graph.picture(seed: 2))
            try await simulator.accepted(2)
            let waiting = try await bridge.submit(Graph.picture(seed: 3))
            func metrics(_ id: String) async throws -> [Bool] {
                let metrics = try await bridge.job(id)["metrics"]
                #expect(metrics?.object?.keys == ["queue_ms", "execution_ms"])
                return ["queue_ms", "execution_ms"].map { (metrics?[$0]?.int ?? -1) >= 0 }
            }
            #expect(try await metrics(running) == [true, false])
            #expect(try await metrics(waiting) == [false, false])
            for id in [waiting, inside, running] {
                _ = try await bridge.send(.POST, "/api/v2/jobs/\(id)/cancel")
                #expect(try await bridge.events(of: id).last?.json["status"] == "canceled")
            }
            #expect(try await metrics(waiting) == [true, false])
            #expect(try await metrics(inside) == [true, false])
            #expect(try await metrics(running) == [true, true])
            for graph in [Graph.picture(), Graph.fails("no")] {
                let id = try await bridge.submit(graph)
                try await bridge.events(of: id)
                #expect(try await metrics(id) == [true, true])
            }
        }
    }
}

extension Sequence where Element: Sendable {
    fileprivate func asyncMap<Result>(_ transform: (Element) async throws -> Result) async rethrows -> [Result] {
        var results: [Result] = []
        for element in self { results.append(try await transform(element)) }
        return results
    }
}
