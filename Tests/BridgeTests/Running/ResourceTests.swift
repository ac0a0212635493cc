import AsyncHTTPClient
import NIOHTTP1
import OrderedCollections
import OrderedJSON
import Simulator
import Testing

@testable import API
@testable import Jobs
@testable import TestSupport

/// The resource API: jobs, events, previews, assets.
@Suite(.timeLimit(.minutes(5))) struct ResourceTests {
    @Test func jobsAreCanceledInEveryState() async throws {
        try await withBridge { bridge, simulator in
            let running = try await bridge.submit(Graph.delay(milliseconds: 600_000, seed: 1))
            let inside = try await bridge.submit(Graph.delay(milliseconds: 600_000, seed: 2))
            let queued = try await bridge.submit(Graph.delay(milliseconds: 600_000, seed: 3))
            while simulator.statistics.promptsAccepted < 2 { await Task.yield() }
            #expect(try await bridge.job(queued)["queue_position"]?.int == 0)
            for id in [queued, inside, running] {
                let answer = try await bridge.send(.POST, "/api/v2/jobs/\(id)/cancel")
                #expect(answer.status == 200)
                #expect(["canceling", "canceled"].contains(try answer.json["status"]?.string))
                #expect(try await bridge.events(of: id).last?.json["status"] == "canceled")
                #expect(try await bridge.job(id)["error"]?["code"] == "canceled")
            }
            #expect(simulator.statistics.promptsRun.count == 1)
            let again = try await bridge.send(.POST, "/api/v2/jobs/\(running)/cancel")
            #expect(try again.json["status"] == "canceled")
        }
    }

    @Test func theQueueIsBounded() async throws {
        try await withBridge(["--queue-limit", "1"]) { bridge, simulator in
            for seed in 1...2 { _ = try await bridge.submit(Graph.delay(milliseconds: 600_000, seed: seed)) }
            while simulator.statistics.promptsAccepted < 2 { await Task.yield() }
            _ = try await bridge.submit(Graph.picture())
            let refused = try await bridge.run(Graph.picture())
            #expect(refused.status == 429)
            #expect(refused.errorCode == "queue_full")
            #expect(refused.headers.first(name: "Retry-After") != nil)
        }
    }

    @Test func aViewerComesBackWithoutAGapOrADouble() async throws {
        try await withBridge { bridge, _ in
            let id = try await bridge.submit(Graph.sampler(steps: 3))
            let all = try await bridge.events(of: id, query: "?last_event_id=0").filter { $0.id != nil }
            #expect(all.map(\.id) == (1...all.count).map { $0 })
            let outputIndex = try #require(all.firstIndex { $0.name == "output" })
            #expect(outputIndex < all.count - 1)
            #expect(all.last?.isTerminal == true)
            for seen in 1..<all.count {
                let rest = try await bridge.events(of: id, [("Last-Event-ID", "\(seen)")]).filter { $0.id != nil }
                #expect(rest == Array(all[seen...]))
            }
            #expect(try await bridge.get("/api/v2/jobs/\(id)/events", [("Last-Event-ID", "\(all.count)")]).status == 204)
            let unknown = try await bridge.events(of: id, [("Last-Event-ID", "\(all.count + 50)")])
            #expect(unknown.first?.name == "reset")
            #expect(unknown.last?.id == all.count)
            let bad = try await bridge.get("/api/v2/jobs/\(id)/events", [("Last-Event-ID", "x")])
            #expect(bad.status == 400)
        }
    }

    @Test func aLateViewerGetsThePresent() async throws {
        try await withBridge { bridge, _ in
            let id = try await bridge.submit(Graph.sampler(steps: 3))
            let live = try await bridge.events(of: id)
            let late = try await bridge.events(of: id)
            #expect(late.map(\.name) == ["progress", "output", "status"])
            #expect(late.last?.id == live.compactMap(\.id).last)
        }
    }

    @Test func everyViewerGetsEveryPreviewInOrder() async throws {
        // Viewers that connect late still find the first frames in the history.
        try await withBridge(["--preview-history", "64"], simulator: { $0.stepDelay = .milliseconds(10) }) { bridge, _ in
            let id = try await bridge.submit(Graph.sampler(steps: 30))
            let counts = try await withThrowingTaskGroup(of: [Int].self) { group in
                for _ in 0..<20 {
                    group.addTask { try await bridge.events(of: id, query: "?last_event_id=0").filter { $0.name == "preview" }.compactMap { $0.json["number"]?.int } }
                }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            #expect(counts.count == 20)
            #expect(counts.allSatisfy { $0 == Array(1...30) })
        }
    }

    @Test func previewsCanBeHadAsFiles() async throws {
        try await withBridge { bridge, _ in
            let id = try await bridge.submit(Graph.sampler(steps: 20))
            try await bridge.events(of: id)
            // The job is over: what can be had is the history, and all of it.
            var frames: Set<[UInt8]> = []
            let previews = try await bridge.events(of: id, query: "?previews=url&last_event_id=0").filter { $0.name == "preview" }
            #expect(previews.compactMap { $0.json["number"]?.int } == Array(5...20))
            for url in previews.compactMap({ $0.json["url"]?.string }) {
                let answer = try await bridge.get(url)
                #expect(answer.status == 200)
                #expect(answer.headers.first(name: "Content-Type") == "image/jpeg")
                #expect(answer.body.starts(with: [0xFF, 0xD8]))
                frames.insert(answer.body)
            }
            #expect(frames.count > 8)
            #expect(try await bridge.get("/api/v2/jobs/\(id)/previews/4").status == 404)
            let newest = try await bridge.get("/api/v2/jobs/\(id)/preview")
            #expect(newest.status == 200)
            let etag = try #require(newest.headers.first(name: "ETag"))
            #expect(try await bridge.get("/api/v2/jobs/\(id)/preview", [("If-None-Match", etag)]).status == 304)
            let silent = try await bridge.events(of: try await bridge.submit(Graph.sampler(steps: 3, seed: "5")), query: "?previews=none")
            #expect(!silent.contains { $0.name == "preview" })
        }
    }

    /// A job ends while its previews are not on disk: the results do not wait behind them.
    @Test func aJobEndsBeforeItsPreviewsAreWritten() async throws {
        try await withTemporaryFolder { folder in
            try await withBridge(["--preview-dir", folder]) { bridge, _ in
                let id = try await bridge.submit(Graph.sampler(steps: 4))
                try await bridge.events(of: id)
                #expect(try await bridge.job(id)["status"] == "succeeded")
            }
            // A bridge that stops has written what it had.
            let folders = filesIn(folder)
            #expect(folders.count == 1 && filesIn("\(folder)/\(folders.first ?? "")") == ["3-1.jpg", "3-2.jpg", "3-3.jpg", "3-4.jpg"])
        }
    }

    @Test func assetsCanBeReadInParts() async throws {
        try await withBridge { bridge, _ in
            let output = try #require(try await bridge.run(Graph.output(["images": [["filename": "big.bin"]]], bytes: 1_000_000)).json["outputs"]?[0])
            let url = try #require(output["url"]?.string)
            let whole = try await bridge.get(url)
            #expect(whole.body.count == 1_000_000)
            let etag = try #require(whole.headers.first(name: "ETag"))
            for (range, expected) in [("bytes=0-9", 0..<10), ("bytes=999990-", 999_990..<1_000_000), ("bytes=-5", 999_995..<1_000_000), ("bytes=500000-600000", 500_000..<600_001)] {
                let part = try await bridge.get(url, [("Range", range)])
                #expect(part.status == 206)
                #expect(part.headers.first(name: "Content-Range") == "bytes \(expected.lowerBound)-\(expected.upperBound - 1)/1000000")
                #expect(part.body == Array(whole.body[expected]))
            }
            #expect(try await bridge.get(url, [("Range", "bytes=0-9"), ("If-Range", etag)]).status == 206)
            #expect(try await bridge.get(url, [("Range", "bytes=0-9"), ("If-Range", "\"other\"")]).status == 200)
            #expect(try await bridge.get(url, [("If-None-Match", etag)]).status == 304)
            let beyond = try await bridge.get(url, [("Range", "bytes=1000000-")])
            #expect(beyond.status == 416)
            #expect(beyond.headers.first(name: "Content-Range") == "bytes */1000000")
            #expect(try await bridge.get(url, [("Range", "lines=1-2")]).status == 200)
            #expect(try await bridge.get(url, [("Range", "bytes=x")]).status == 400)
            let head = try await bridge.send(.HEAD, url)
            #expect(head.status == 200)
            #expect(head.headers.first(name: "Content-Length") == "1000000")
            let asset = try await bridge.get("/api/v2/assets/\(output["id"]?.string ?? "")").json
            #expect(asset["size_bytes"]?.int == 1_000_000)
            #expect(asset["job_id"] == output["job_id"])
        }
    }

    @Test func whatABrowserWouldRunIsOnlySaved() async throws {
        try await withBridge { bridge, _ in
            let job = try await bridge.run(Graph.output(["files": [["filename": "a.svg"], ["filename": "b.js"], ["filename": "c.html"]]])).json
            for output in job["outputs"]?.array ?? [] {
                let content = try await bridge.get(output["url"]?.string ?? "")
                #expect(content.headers.first(name: "Content-Disposition")?.hasPrefix("attachment") == true)
                #expect(content.headers.first(name: "X-Content-Type-Options") == "nosniff")
            }
        }
    }

    @Test func theWorkflowComesBackToTheDigit() async throws {
        try await withBridge { bridge, _ in
            let graph = Graph.sampler(steps: 1)
            let id = try await bridge.submit(graph)
            let answer = try await bridge.get("/api/v2/jobs/\(id)/workflow").json
            #expect(answer["workflow"]?.text == graph.text)
            #expect(answer["format"] == "api")
        }
    }

    @Test("What is not there is said in the envelope", arguments: [
        ("GET", "/api/v2/jobs/nope", 404, "not_found"), ("GET", "/api/v2/jobs/00000000-0000-4000-8000-000000000000", 404, "not_found"),
        ("GET", "/api/v2/jobs/00000000-0000-4000-8000-000000000000/events", 404, "not_found"), ("POST", "/api/v2/jobs/x/cancel", 404, "not_found"),
        ("GET", "/api/v2/assets/x/content", 404, "not_found"), ("GET", "/nothing", 404, "not_found"), ("GET", "/api/v2/jobs/x/previews/1", 404, "not_found"),
        ("GET", "/run", 405, "method_not_allowed"), ("DELETE", "/api/v2/jobs/x", 405, "method_not_allowed"), ("PUT", "/", 405, "method_not_allowed"),
        ("POST", "/api/v2/jobs", 400, "invalid_json"),
    ])
    func absent(_ method: String, _ path: String, _ status: Int, _ code: String) async throws {
        try await withBridge { bridge, _ in
            let answer = try await bridge.send(HTTPMethod(rawValue: method), path)
            #expect(answer.status == status)
            #expect(answer.errorCode == code)
            if status == 405 { #expect(answer.headers.first(name: "Allow") != nil) }
        }
    }

    @Test("A body that is too large is refused, with what helps", arguments: [
        ("/run", 3 << 20, "raise --max-body-size"), ("/api/v2/jobs/x/cancel", 70_000, "nothing is read of a body here"),
    ])
    func tooLarge(_ path: String, _ size: Int, _ words: String) async throws {
        try await withBridge(["--max-body-size", "1"]) { bridge, _ in
            let answer = try await bridge.send(.POST, path, body: Array(repeating: UInt8(ascii: " "), count: size))
            #expect(answer.status == 413)
            #expect(answer.errorCode == "payload_too_large")
            let message = try answer.json["error"]?["message"]?.string ?? ""
            #expect(message.contains(words) && message.contains("--max-body-size") == (path == "/run"), "\(message)")
        }
    }

    /// As `json.dumps` of what is JSON text already makes it.
    @Test("What was encoded twice is told so", arguments: [
        ("/run", "G", "body"), ("/run", #"{"workflow":G}"#, "member 'workflow'"), ("/run", #"{"prompt":G}"#, "member 'prompt'"), ("/api/v2/jobs", "G", "body"),
        ("/api/v2/jobs", #"{"workflow":G}"#, "member 'workflow'"), ("/api/v2/jobs", #"{"workflow":{},"metadata":G}"#, "member 'metadata'"),
        ("/api/v2/jobs", #"{"workflow":{},"extra_data":G}"#, "member 'extra_data'"),
    ])
    func encodedTwice(_ path: String, _ body: String, _ place: String) async throws {
        try await withBridge { bridge, simulator in
            for graph in [Graph.picture().text, "\n [\(Graph.picture().text)]"] {
                let answer = try await bridge.send(.POST, path, body: Array(body.replacing("G", with: JSON.string(graph).text).utf8))
                #expect(answer.status == 422 && answer.errorCode == "invalid_request")
                let message = try answer.json["error"]?["message"]?.string ?? ""
                #expect(message.hasPrefix("The \(place) is a string that holds JSON, not the object itself: it was encoded twice."), "\(message)")
            }
            // Another string is only a string.
            let other = try await bridge.send(.POST, path, body: Array(body.replacing("G", with: #""a picture""#).utf8))
            #expect(other.status == 422)
            #expect(try other.json["error"]?["message"]?.string?.contains("encoded twice") == false)
            #expect(simulator.statistics.promptsAccepted == 0)
        }
    }
}
