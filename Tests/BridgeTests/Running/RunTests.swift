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

/// `POST /run` against a simulated ComfyUI, over real sockets.
@Suite(.timeLimit(.minutes(5))) struct RunTests {
    @Test func answersWithTheJobAndTheSeedSurvives() async throws {
        try await withSimulator { _, port in
            try await withBridge([port]) { bridge in
                let answer = try await bridge.run(Graph.sampler(steps: 2))
                #expect(answer.status == 200)
                let job = try answer.json
                #expect(job["status"] == "succeeded")
                #expect(job["progress"]?["value"]?.double == 1)
                #expect(job["metrics"]?["execution_ms"]?.int != nil)
                let output = try #require(job["outputs"]?[0])
                #expect(output["content_type"] == "image/png")
                let bytes = try await bridge.get(try #require(output["url"]?.string))
                #expect(bytes.status == 200)
                #expect(bytes.body.count == output["size_bytes"]?.int)
                #expect(bytes.body.starts(with: [0x89, 0x50, 0x4E, 0x47]))
                let name = try #require(output["name"]?.string)
                let direct = try await bridge.get("http://127.0.0.1:\(port)/view?filename=\(name)")
                #expect(direct.body == bytes.body)
                let history = try await bridge.get("http://127.0.0.1:\(port)/history")
                #expect(String(decoding: history.body, as: UTF8.self).contains("18446744073709551615"))
            }
        }
    }

    @Test func answersWithThePictureOnRequest() async throws {
        try await withBridge { bridge, _ in
            let answer = try await bridge.run(Graph.picture(), [("Accept", "image/png")])
            #expect(answer.status == 200)
            #expect(answer.headers.first(name: "Content-Type") == "image/png")
            #expect(answer.headers.first(name: "Content-Disposition")?.contains("t_00001_.png") == true)
            #expect(answer.headers.first(name: "Comfy-Job-Id") != nil)
            #expect(answer.body.starts(with: [0x89, 0x50, 0x4E, 0x47]))

            let none = try await bridge.run(Graph.picture(), [("Accept", "video/*")])
            #expect(none.status == 406)
            #expect(none.errorCode == "not_acceptable")
            // What was made is not lost by it.
            #expect(try none.json["error"]?["details"]?["outputs"]?[0]?["content_type"] == "image/png")
        }
    }

    @Test func answersWithBase64OnRequest() async throws {
        try await withBridge { bridge, _ in
            let answer = try await bridge.run(Graph.picture(), query: "?outputs=base64")
            let output = try #require(try answer.json["outputs"]?[0])
            let data = try #require(Data(base64Encoded: output["data_base64"]?.string ?? ""))
            #expect(data.count == output["size_bytes"]?.int)
        }
    }

    @Test func blocksOnlyAsLongAsWanted() async throws {
        try await withBridge { bridge, _ in
            let asynchronous = try await bridge.run(Graph.delay(milliseconds: 60_000), [("Prefer", "respond-async")])
            #expect(asynchronous.status == 202)
            let location = try #require(asynchronous.headers.first(name: "Location"))
            let waited = try await bridge.run(Graph.picture(seed: 2), [("Prefer", "wait=1")])
            #expect(waited.status == 202)
            #expect(try waited.json["status"] == "queued")
            _ = try await bridge.send(.POST, "\(location)/cancel")
            let id = try #require(waited.headers.first(name: "Comfy-Job-Id"))
            let events = try await bridge.events(of: id)
            #expect(events.last?.json["status"] == "succeeded")
        }
    }

    /// `curl -o result.png` must never hold JSON while curl says that all is well.
    @Test("Who accepts only bytes gets bytes or an error", arguments: ["wait=0", "wait=1"]) func waitElapsed(_ preference: String) async throws {
        try await withBridge { bridge, _ in
            let png = ("Accept", "image/png")
            let running = try await bridge.submit(Graph.delay(milliseconds: 600_000))
            let early = try await bridge.run(Graph.picture(), [png, ("Prefer", preference)])
            #expect(early.status == 504 && early.errorCode == "wait_elapsed")
            #expect(early.headers.first(name: "Retry-After") != nil && early.headers.first(name: "Server-Timing") != nil)
            let id = try #require(early.headers.first(name: "Comfy-Job-Id"))
            let location = try #require(early.headers.first(name: "Location"))
            #expect(location.hasSuffix("/api/v2/jobs/\(id)"))
            let details = try early.json["error"]?["details"]
            #expect(details == ["job_id": .string(id), "status": "queued"])
            // JSON for those that can tell it from a picture.
            for headers in [[png, ("Prefer", "respond-async")], [png, ("Prefer", "respond-async, wait=1")], [("Accept", "image/png, application/json;q=0.1"), ("Prefer", "wait=1")]] {
                let accepted = try await bridge.run(Graph.picture(seed: 2), headers)
                #expect(accepted.status == 202)
                _ = try await bridge.send(.POST, "\(accepted.headers.first(name: "Location") ?? "")/cancel")
            }
            // The same at the Location, at once or after the wait.
            for headers in [[png], [png, ("Prefer", "wait=1")]] {
                let pending = try await bridge.get(location, headers)
                #expect(pending.status == 504 && pending.errorCode == "wait_elapsed" && pending.headers.first(name: "Location") == location)
            }
            let job = try await bridge.get(location, [("Accept", "text/html,application/xhtml+xml,image/avif,image/png,*/*;q=0.8")]).json
            #expect(job["status"] == "queued")
            async let bytes = bridge.get(location, [png, ("Prefer", "wait=3600")])
            _ = try await bridge.send(.POST, "/api/v2/jobs/\(running)/cancel")
            let picture = try await bytes
            #expect(picture.status == 200 && picture.headers.first(name: "Content-Type") == "image/png" && picture.body.starts(with: [0x89, 0x50, 0x4E, 0x47]))
            #expect(picture.headers.first(name: "Preference-Applied") == "wait=3600" && picture.headers.first(name: "Vary")?.contains("Accept") == true)

            // Conditions and ranges work as on the content.
            let etag = try #require(picture.headers.first(name: "ETag"))
            let unchanged = try await bridge.get(location, [png, ("If-None-Match", etag)])
            #expect(unchanged.status == 304)
            let part = try await bridge.get(location, [png, ("Range", "bytes=0-3")])
            #expect(part.status == 206 && part.body == Array(picture.body.prefix(4)))
            let head = try await bridge.send(.HEAD, location, [png])
            #expect(head.status == 200 && head.headers.first(name: "Content-Length") == "\(picture.body.count)" && head.body.isEmpty)
            // Of another type there is none, and everybody else gets the job.
            let none = try await bridge.get(location, [("Accept", "video/*")])
            #expect(none.status == 406 && none.errorCode == "not_acceptable")
            for accept in ["application/json", "*/*", "text/event-stream", "text/html", "video/*, */*;q=0.1", "application/json, image/png;q=0.5", "text/html, image/png, */*;q=0.8"] {
                let job = try await bridge.get(location, [("Accept", accept)])
                let found = try job.json["id"]?.string
                #expect(job.status == 200 && found == id, "\(accept)")
                #expect(job.headers["Vary"].contains("Accept"), "a cache keeps it apart from the bytes")
            }
            let failed = try await bridge.get("/api/v2/jobs/\(running)", [png])
            #expect(failed.status == 409 && failed.errorCode == "canceled")
        }
    }

    @Test func aStreamIsAStreamHoweverLongOneWantsToWait() async throws {
        try await withBridge { bridge, _ in
            let answer = try await bridge.run(Graph.picture(), [("Accept", "text/event-stream"), ("Prefer", "wait=1")])
            #expect(answer.status == 200 && answer.headers.first(name: "Content-Type") == "text/event-stream")
        }
    }

    @Test func streamsTheWholeRun() async throws {
        try await withBridge { bridge, _ in
            let response = try await bridge.open(.POST, "/run", [("Accept", "text/event-stream")], body: Graph.sampler(steps: 5).encoded())
            #expect(response.headers.first(name: "Content-Type") == "text/event-stream")
            let events = try await bridge.events(response)
            #expect(events.first?.name == "job")
            #expect(events.last?.json["status"] == "succeeded")
            #expect(events.filter { $0.name == "output" }.count == 1)
            #expect(events.filter { $0.name == "preview" }.count == 5)
            let ids = events.compactMap(\.id)
            #expect(ids == Array(1...ids.count))
            let values = events.filter { $0.name == "progress" }.compactMap { $0.json["value"]?.double }
            #expect(values == values.sorted())
            #expect(values.last == 1)
        }
    }

    @Test func aFailingNodeIsNamedAndNoPathLeaks() async throws {
        try await withBridge { bridge, _ in
            let answer = try await bridge.run(Graph.fails("cannot open /srv/models/secret/a.safetensors"))
            #expect(answer.status == 500)
            let error = try #require(try answer.json["error"])
            #expect(error["code"] == "node_execution_error")
            #expect(error["details"]?["node_id"] == "2")
            #expect(error["details"]?["class_type"] == "SimRaise")
            #expect(error["message"]?.string?.contains("a.safetensors") == true)
            #expect(!String(decoding: answer.body, as: UTF8.self).contains("/srv/"))
        }
    }

    @Test func aTimeLimitEndsTheJobAndFreesComfyUI() async throws {
        try await withBridge { bridge, _ in
            let answer = try await bridge.run(Graph.delay(milliseconds: 600_000), query: "?timeout=0.2")
            #expect(answer.status == 504)
            #expect(answer.errorCode == "timed_out")
            #expect(try await bridge.run(Graph.picture()).status == 200)
        }
    }

    @Test func aCallerThatLeavesCancelsItsJob() async throws {
        try await withBridge { bridge, simulator in
            let task = Task { try await bridge.run(Graph.delay(milliseconds: 600_000)) }
            while simulator.statistics.promptsRun.isEmpty { await Task.yield() }
            task.cancel()
            _ = await task.result
            // The only way this one gets to run:
            let next = try await bridge.run(Graph.picture())
            #expect(next.status == 200)
        }
    }

    @Test func aCallerThatAskedToContinueMayLeave() async throws {
        try await withBridge { bridge, simulator in
            let task = Task { try await bridge.run(Graph.delay(milliseconds: 500), query: "?on_disconnect=continue") }
            while simulator.statistics.promptsRun.isEmpty { await Task.yield() }
            let id = try #require(simulator.statistics.promptsRun.keys.first)
            task.cancel()
            _ = await task.result
            #expect(try await bridge.events(of: id).last?.json["status"] == "succeeded")
        }
    }

    @Test func aStreamThatIsLeftCancelsItsJob() async throws {
        try await withBridge { bridge, _ in
            let response = try await bridge.open(.POST, "/run", [("Accept", "text/event-stream")], body: Graph.delay(milliseconds: 600_000).encoded())
            let events = try await bridge.events(response, until: { $0.json["status"] == "running" })
            let id = try #require(events.first?.json["id"]?.string)
            #expect(try await bridge.events(of: id).last?.json["status"] == "canceled")
        }
    }

    @Test func theSameKeyRunsOnce() async throws {
        try await withBridge { bridge, simulator in
            let key = [("Idempotency-Key", "k-1")]
            let first = try await bridge.run(Graph.picture(), key)
            let second = try await bridge.run(Graph.picture(), key)
            #expect(second.status == 200)
            #expect(try first.json["id"] == second.json["id"])
            #expect(simulator.statistics.promptsAccepted == 1)
            // Written otherwise, and paid by somebody else: the same submission.
            let wrapped: JSON = ["extra_data": ["api_key_comfy_org": "k"], "workflow": Graph.picture()]
            let third = try await bridge.send(.POST, "/run", key, body: Array("\n \(wrapped.text)".utf8))
            #expect(try first.json["id"] == third.json["id"])
            for (graph, query) in [(Graph.picture(seed: 2), ""), (Graph.picture(), "?priority=1"), (Graph.picture(), "?timeout=60"), (Graph.picture(), "?partial=allow")] {
                let other = try await bridge.run(graph, query: query, key)
                #expect(other.status == 422)
                #expect(other.errorCode == "idempotency_key_reuse")
            }
            let resource = try await bridge.send(.POST, "/api/v2/jobs", key, body: (["workflow": Graph.picture()] as JSON).encoded())
            #expect(resource.errorCode == "idempotency_key_reuse")
        }
    }

    @Test func aKeyIsOnlyUsedUpByARequestThatMadeAJob() async throws {
        try await withBridge(["--queue-limit", "1"]) { bridge, simulator in
            func submit(_ workflow: JSON, _ key: String) async throws -> RunningBridge.Answer {
                try await bridge.send(.POST, "/api/v2/jobs", [("Idempotency-Key", key)], body: (["workflow": workflow] as JSON).encoded())
            }
            let invalid = try await submit(["1": ["class_type": "Nope", "inputs": [:]]], "k-1")
            #expect(invalid.errorCode == "invalid_workflow")
            var jobs: [String] = []
            for seed in 1...2 {
                let answer = try await submit(Graph.delay(milliseconds: 600_000, seed: seed), "k-\(seed)")
                #expect(answer.status == 201)
                jobs.append(try answer.json["id"]?.string ?? "")
                while simulator.statistics.promptsAccepted < seed { await Task.yield() }
            }
            let third = try await submit(Graph.picture(), "k-3")
            #expect(third.status == 201)
            let full = try await submit(Graph.picture(), "k-4")
            #expect(full.errorCode == "queue_full")
            for id in jobs { _ = try await bridge.send(.POST, "/api/v2/jobs/\(id)/cancel") }
            try await bridge.events(of: try third.json["id"]?.string ?? "")
            let retried = try await submit(Graph.picture(), "k-4")
            #expect(retried.status == 201)
            // Single use: of the resource API no answer is given twice.
            let again = try await submit(Graph.picture(), "k-4")
            #expect(again.status == 422)
            #expect(again.errorCode == "idempotency_key_reuse")
        }
    }

    @Test func partlyInvalidWorkflowsAreRefusedUnlessAllowed() async throws {
        var graph = try #require(Graph.picture().object)
        graph["8"] = ["class_type": "EmptyImage", "inputs": ["width": 0, "height": 16, "batch_size": 1, "color": 0]]
        graph["9"] = ["class_type": "SaveImage", "inputs": ["images": ["8", 0], "filename_prefix": "bad"]]
        try await withBridge { [graph] bridge, _ in
            let refused = try await bridge.run(.object(graph))
            #expect(refused.status == 422)
            #expect(refused.errorCode == "invalid_workflow")
            #expect(try refused.json["error"]?["details"]?["node_errors"]?["8"]?[0]?["reason"] == "value_smaller_than_min")
            let allowed = try await bridge.run(.object(graph), query: "?partial=allow")
            #expect(allowed.status == 200)
            #expect(try allowed.json["outputs"]?.array?.count == 1)
        }
    }

    @Test func everyKindOfOutputComesThrough() async throws {
        let ui: JSON = [
            "images": [["filename": "a.webm", "subfolder": "", "type": "output"]], "animated": [true],
            "audio": [["filename": "b.flac", "subfolder": "sub", "type": "output"]], "3d": [["filename": "c.glb", "subfolder": "", "type": "output"]],
            "latents": [["filename": "d.latent", "subfolder": "", "type": "output"]], "gifs": [["filename": "e.mp4", "format": "video/h264-mp4"]],
            "text": ["hello", "wörld"], "number": [1, 2.50], "nested": [["a": [nil]]], "flag": [true],
        ]
        try await withBridge { bridge, _ in
            let job = try await bridge.run(Graph.output(ui)).json
            let outputs = job["outputs"]?.array ?? []
            let kinds = outputs.map { "\($0["name"]?.string ?? ""):\($0["type"]?.string ?? "")" }
            #expect(kinds == ["a.webm:video", "b.flac:audio", "c.glb:file", "d.latent:latent", "e.mp4:video", "1-1.txt:text", "1-2.txt:text"])
            #expect(outputs.last?["text"] == "wörld")
            #expect(job["other_outputs"]?["1"]?.text == #"{"number":[1,2.5],"nested":[{"a":[null]}],"flag":[true]}"#)
            for output in outputs {
                let content = try await bridge.get(output["url"]?.string ?? "")
                #expect(content.status == 200)
                #expect(content.body.count == output["size_bytes"]?.int)
            }
        }
    }

    @Test func resultsThatComeOverTheSocketAreOutputs() async throws {
        let graph: JSON = [
            "1": ["class_type": "EmptyImage", "inputs": ["width": 40, "height": 30, "batch_size": 3, "color": 255]],
            "ws": ["class_type": "SaveImageWebsocket", "inputs": ["images": ["1", 0]]],
        ]
        try await withBridge { bridge, _ in
            let job = try await bridge.run(graph).json
            #expect(job["outputs"]?.array?.map { $0["node_id"]?.string } == ["ws", "ws", "ws"])
            for output in job["outputs"]?.array ?? [] {
                let content = try await bridge.get(output["url"]?.string ?? "")
                #expect(content.body.count == output["size_bytes"]?.int)
                #expect(content.body.starts(with: [0x89, 0x50, 0x4E, 0x47]))
            }
        }
    }

    @Test func manyCallersAllGetTheirOwnPicture() async throws {
        try await withBridge(["--queue-limit", "500"]) { bridge, simulator in
            let widths = try await withThrowingTaskGroup(of: (Int, Int).self) { group in
                for width in 1...200 {
                    group.addTask {
                        let answer = try await bridge.run(Graph.picture(width: width), [("Accept", "image/png")])
                        guard answer.status == 200, answer.body.count > 24 else { return (width, -1) }
                        // PNG's IHDR: width in bytes 16 to 19, big-endian.
                        return (width, answer.body[16..<20].reduce(0) { $0 << 8 | Int($1) })
                    }
                }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            #expect(widths.count == 200)
            #expect(widths.allSatisfy { $0.0 == $0.1 })
            #expect(simulator.statistics.promptsRun.values.allSatisfy { $0 == 1 })
        }
    }

    @Test("Bad input gets a 4xx with the reason, and ComfyUI never sees it", arguments: [
        ("", [], "", 400, "invalid_json"), ("", [], "{\"1\": ", 400, "invalid_json"), ("", [], "\u{0}", 400, "invalid_json"),
        ("", [], "5", 422, "invalid_workflow"), ("", [], "[]", 422, "invalid_workflow"), ("", [], "{}", 422, "invalid_workflow"),
        ("", [], #"{"nodes": [], "links": []}"#, 422, "workflow_format_ui"), ("", [], #"{"workflow": {"nodes": [], "links": []}}"#, 422, "workflow_format_ui"),
        ("", [], #"{"1": {"class_type": "Nope", "inputs": {}}}"#, 422, "invalid_workflow"),
        ("", [], #"{"1": {"class_type": "EmptyImage"}}"#, 422, "invalid_workflow"), ("", [], #"{"1": {"inputs": {}}}"#, 422, "invalid_workflow"),
        ("", [], #"{"1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}}}"#, 422, "invalid_workflow"),
        ("", [], #"{"1": {"class_type": "SaveImage", "inputs": {}}}"#, 422, "invalid_workflow"),
        ("", [], #"{"1": {"class_type": "LoadImage", "inputs": {"image": "../x.png"}}, "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}}"#, 422, "invalid_workflow"),
        ("", [], #"{"workflow": {}, "extra_data": 5}"#, 422, "invalid_request"), ("", [], #"{"workflow": {}, "extra_data": {"preview_method": "x"}}"#, 422, "invalid_request"),
        ("", [], #"{"workflow": {}, "extra_data": {"extra_pnginfo": null}}"#, 422, "invalid_request"), ("", [], #"{"workflow": {}, "metadata": []}"#, 422, "invalid_request"),
        ("", [], #"{"workflow": {}, "webhook_url": "x"}"#, 422, "invalid_request"), ("", [], #"{"prompt": {"1": {}}}"#, 422, "invalid_request"),
        ("?timeout=x", [], "{}", 400, "invalid_parameter"), ("?outputs=zip", [], "{}", 400, "invalid_parameter"), ("?partial=maybe", [], "{}", 400, "invalid_parameter"),
        ("?on_disconnect=x", [], "{}", 400, "invalid_parameter"), ("?previews=x", [], "{}", 400, "invalid_parameter"), ("?native=x", [], "{}", 400, "invalid_parameter"),
        ("", [("Prefer", "wait=soon")], "{}", 400, "invalid_parameter"), ("", [("Accept", "text/html")], "{}", 406, "not_acceptable"),
        ("", [("Content-Encoding", "gzip")], "{}", 400, "invalid_parameter"),
    ] as [(String, [(String, String)], String, Int, String)])
    func badInput(_ query: String, _ headers: [(String, String)], _ body: String, _ status: Int, _ code: String) async throws {
        try await withBridge { bridge, simulator in
            let answer = try await bridge.send(.POST, "/run\(query)", headers, body: Array(body.utf8))
            #expect(answer.status == status)
            #expect(answer.errorCode == code)
            #expect((try answer.json["error"]?["message"]?.string?.count ?? 0) > 20)
            #expect(simulator.statistics.promptsAccepted == 0)
        }
    }
}
