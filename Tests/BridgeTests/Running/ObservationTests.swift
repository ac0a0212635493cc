import InMemoryLogging
import Logging
import NIOHTTP1
import OrderedCollections
import OrderedJSON
import Simulator
import Testing

@testable import API
@testable import Jobs
@testable import Store
import Wording
@testable import TestSupport
@testable import Workers

/// What operators see of a running bridge.
@Suite(.timeLimit(.minutes(5))) struct ObservationTests {
    /// The samples of `/metrics` by name and labels as they are written.
    private struct Samples {
        private var values: [Substring: Double] = [:]

        init(_ bridge: RunningBridge) async throws {
            let answer = try await bridge.get("/metrics")
            #expect(answer.status == 200)
            #expect(answer.headers.first(name: "Content-Type") == "text/plain; version=0.0.4; charset=utf-8")
            for line in String(decoding: answer.body, as: UTF8.self).split(separator: "\n") where !line.hasPrefix("#") {
                let space = try #require(line.lastIndex(of: " "))
                let isNew = values.updateValue(try #require(Double(line[line.index(after: space)...])), forKey: line[..<space]) == nil
                #expect(isNew, "\(line) comes twice")
            }
        }

        func sum(of name: String) -> Double { values.filter { $0.key.hasPrefix("comfy_bridge_\(name)") }.values.reduce(0, +) }

        /// Without the prefix that all own metrics have.
        subscript(name: Substring) -> Double? { values["comfy_bridge_" + name] ?? values[name] }
    }

    /// The caller is answered as soon as its job is over, which is a moment before the job is counted.
    private func settled(_ bridge: RunningBridge, ended: Double) async throws -> Samples {
        let statuses: [Substring] = [
            #"jobs_ended_total{status="succeeded",code=""}"#, #"jobs_ended_total{status="failed",code="node_execution_error"}"#,
            #"jobs_ended_total{status="canceled",code="canceled"}"#,
        ]
        return try await samples(bridge, "\(ended) ends are counted") { samples in statuses.reduce(0) { $0 + (samples[$1] ?? 0) } == ended }
    }

    private func samples(_ bridge: RunningBridge, _ what: String, until isWanted: (Samples) -> Bool) async throws -> Samples {
        var found: Samples?
        try await bridge.until(what) {
            let samples = try await Samples($0)
            found = samples
            return isWanted(samples)
        }
        return try #require(found)
    }

    @Test func theMetricsSayWhatWasDone() async throws {
        try await withSimulator { simulator, port in
            try await withBridge([port]) { bridge in
                let url = "url=\"http://127.0.0.1:\(port)\""
                for seed in 1...3 { #expect(try await bridge.run(Graph.picture(seed: seed)).status == 200) }
                #expect(try await bridge.run(Graph.fails("no")).status == 500)
                let sampler = try await bridge.run(Graph.sampler(steps: 4))
                let output = try #require(try sampler.json["outputs"]?[0])
                let bytes = try await bridge.get(try #require(output["url"]?.string)).body.count
                let id = try await bridge.submit(Graph.delay(milliseconds: 600_000))
                try await bridge.untilRunning(id)
                #expect(try await bridge.get("/nothing/\(id)").status == 404)

                let meanwhile = try await settled(bridge, ended: 5)
                #expect(meanwhile[#"jobs{status="running"}"#] == 1)
                #expect(meanwhile["comfyui_open_prompts{\(url)}"] == 1)
                #expect(meanwhile["comfyui_connected{\(url)}"] == 1)
                #expect(meanwhile["comfyui_reconnects_total{\(url)}"] == 0)
                #expect(meanwhile["queue_depth"] == 0)
                #expect(meanwhile["viewers"] == 0)

                _ = try await bridge.events(of: id) { $0.name == "status" }
                _ = try await bridge.send(.POST, "/api/v2/jobs/\(id)/cancel")
                let events = try await bridge.events(of: id)
                #expect(events.last?.json["status"] == "canceled")

                let samples = try await settled(bridge, ended: 6)
                #expect(samples["jobs_submitted_total"] == 6)
                #expect(samples[#"jobs_ended_total{status="succeeded",code=""}"#] == 4)
                #expect(samples[#"jobs_ended_total{status="failed",code="node_execution_error"}"#] == 1)
                #expect(samples[#"jobs_ended_total{status="canceled",code="canceled"}"#] == 1)
                for status: Substring in ["queued", "running", "canceling"] { #expect(samples["jobs{status=\"\(status)\"}"] == 0) }
                #expect(samples["job_queue_seconds_count"] == 6)
                #expect(samples["job_execution_seconds_count"] == 6)
                #expect((samples["job_execution_seconds_sum"] ?? 0) > 0)
                #expect(samples[#"overhead_seconds_count{phase="accept"}"#] == 6)
                #expect(samples[#"overhead_seconds_count{phase="hand_over"}"#] == 6)
                #expect(samples[#"overhead_seconds_count{phase="finish"}"#] == 6)
                #expect(samples["previews_total"] == 4)
                #expect((samples[#"received_bytes_total{kind="preview"}"#] ?? 0) > 400)
                #expect(samples[#"sent_bytes_total{kind="asset"}"#] == Double(bytes))
                #expect((samples[#"sent_bytes_total{kind="events"}"#] ?? 0) > 100)
                #expect(samples[#"http_requests_total{route="/run",method="POST",status="200"}"#] == 4)
                #expect(samples[#"http_requests_total{route="/run",method="POST",status="500"}"#] == 1)
                #expect(samples[#"http_requests_total{route="/api/v2/jobs/{id}/events",method="GET",status="200"}"#] == 3)
                #expect(samples[#"http_requests_total{route="other",method="GET",status="404"}"#] == 1)
                #expect((samples["http_connections"] ?? 0) >= 1)
                #expect((samples["process_resident_memory_bytes"] ?? 0) > 1e6)
                #expect((samples[#"reconciliations_total{reason="cancel"}"#] ?? 0) >= 1)
            }
        }
    }

    @Test func uploadsAndOpenStreamsAreCounted() async throws {
        try await withBridge { bridge, _ in
            let content = String(repeating: "x", count: 100_000)
            let form = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\n\(content)\r\n--b--\r\n"
            let upload = try await bridge.send(.POST, "/api/v2/assets", [("Content-Type", "multipart/form-data; boundary=b")], body: Array(form.utf8))
            #expect(upload.status == 201)
            let id = try await bridge.submit(Graph.delay(milliseconds: 600_000))
            let stream = try await bridge.open(.GET, "/api/v2/jobs/\(id)/events", body: nil)
            let samples = try await Samples(bridge)
            #expect(samples[#"received_bytes_total{kind="upload"}"#] == 100_000)
            #expect(samples["viewers"] == 1)
            _ = try await bridge.send(.POST, "/api/v2/jobs/\(id)/cancel")
            _ = try await bridge.events(stream)
        }
    }

    @Test func aBrokenSocketIsCounted() async throws {
        try await withBridge { bridge, simulator in
            simulator.faults.arm(.cut(.start), times: 1)
            // Long enough for the socket to be closed before the run's last message, also on a slow machine: with that there is nothing to look for.
            #expect(try await bridge.run(Graph.delay(milliseconds: 1000)).status == 200)
            let counted = try await samples(bridge, "it is connected again") { $0.sum(of: "comfyui_reconnects_total") > 0 }
            // On a slow machine something else may give the reason: silence, or a submit whose answer is late.
            let looks = counted.sum(of: "reconciliations_total")
            #expect(looks >= 1)
        }
    }

    /// A restart of ComfyUI in the middle: the run is lost, and the job runs once more.
    @Test func aLostRunIsTold() async throws {
        try await withBridge(simulator: { $0.restartDelay = .milliseconds(50) }) { bridge, simulator in
            simulator.faults.arm(.exit(.node), times: 1)
            let id = try await bridge.submit(Graph.delay(milliseconds: 600_000))
            try await why(bridge, simulator, id) { $0["details"]?["returns"] != nil }
            let answer = try await why(bridge, simulator, id) { $0["reason"] == "running" }
            #expect(answer["details"]?["returns"] == 1)
            #expect(answer["message"]?.string?.contains("went back into the queue once, the last time because: ComfyUI lost the job") == true)
            let samples = try await Samples(bridge)
            #expect(samples["jobs_returned_total"] == 1)
            #expect(samples.sum(of: "comfyui_in_rotation") == 1)
            _ = try await bridge.send(.POST, "/api/v2/jobs/\(id)/cancel")
            _ = try await bridge.events(of: id)
        }
    }

    @Test func theMetricsWantATokenLikeTheRest() async throws {
        try await withSimulator { _, port in
            try await withBridge([port], ["--token", "a-token-for-this-test"]) { bridge in
                let stranger = try await bridge.get("/metrics")
                #expect(stranger.status == 401)
                let known = try await bridge.get("/metrics", [("Authorization", "Bearer a-token-for-this-test")])
                #expect(known.status == 200)
            }
        }
    }

    // MARK: Server-Timing

    private func timing(of answer: RunningBridge.Answer) throws -> [String: Double] {
        let parts = serverTimingParts(try #require(answer.headers.first(name: "Server-Timing")))
        #expect(Set(parts.keys) == ["queue", "execution", "fetch", "bridge"])
        return parts
    }

    /// The parts add up to what the caller measures, but for the way there and back, which is in nobody's account.
    @Test func theTimingOfARunAddsUp() async throws {
        try await withBridge { bridge, _ in
            // The last: milliseconds that it takes at least.
            let forms: [(String, [(String, String)], Int, Double)] = [
                ("", [], 200, 119), ("?outputs=base64", [], 200, 119), ("", [("Accept", "image/png")], 200, 119), ("", [("Accept", "video/*")], 406, 119),
                ("?timeout=0.1", [], 504, 99), ("", [("Prefer", "respond-async")], 202, 0), ("", [("Prefer", "wait=1")], 202, 999),
            ]
            for (number, (query, headers, status, least)) in forms.enumerated() {
                let isLong = status == 202 || status == 504
                let begin = ContinuousClock.now
                let answer = try await bridge.run(Graph.delay(milliseconds: isLong ? 600_000 : 120, seed: number), query: query, headers)
                let measured = (ContinuousClock.now - begin).seconds * 1000
                #expect(answer.status == status)
                let parts = try timing(of: answer)
                let sum = parts.values.reduce(0, +)
                #expect(sum <= measured + 1, "\(parts), measured \(measured)")
                #expect(sum >= least, "\(parts)")
                // ComfyUI's word that it has begun may be read late, but not what comes before its end.
                if !isLong { #expect((parts["queue"] ?? 0) + (parts["execution"] ?? 0) >= 119) }
                if let id = answer.headers.first(name: "Comfy-Job-Id"), status == 202 { _ = try await bridge.send(.POST, "/api/v2/jobs/\(id)/cancel") }
            }
            let failed = try await bridge.run(Graph.fails("no"))
            #expect(failed.status == 500)
            #expect(try timing(of: failed)["bridge"] ?? -1 >= 0)
        }
    }

    @Test func waitingIsQueueTime() async throws {
        try await withBridge { bridge, _ in
            let first = try await bridge.submit(Graph.delay(milliseconds: 600_000))
            try await bridge.untilRunning(first)
            async let second = bridge.run(Graph.picture(seed: 9))
            try await bridge.until("the second job is there") { try await $0.get("/api/v2/jobs?limit=1").json["jobs"]?[0]?["id"]?.string != first }
            let begin = ContinuousClock.now
            for _ in 0..<20 { _ = try await bridge.job(first) }
            let waited = (ContinuousClock.now - begin).seconds * 1000
            _ = try await bridge.send(.POST, "/api/v2/jobs/\(first)/cancel")
            let parts = try timing(of: try await second)
            #expect((parts["queue"] ?? 0) >= waited - 0.1)
        }
    }

    // MARK: Why

    private func why(_ bridge: RunningBridge, _ id: String) async throws -> JSON { try await bridge.get("/api/v2/jobs/\(id)/why").json }

    /// Asks again, whenever ComfyUI has done something, until the answer is as wanted, which it must be before the job is over. The bridge may
    /// know it a moment after that; it then asks ComfyUI, when it has heard nothing for a while.
    @discardableResult
    private func why(_ bridge: RunningBridge, _ simulator: ComfySimulator, _ id: String, until isWanted: (JSON) -> Bool) async throws -> JSON {
        var answer: JSON = .null
        try await simulator.until("the reason is as expected") { _ in
            answer = try await why(bridge, id)
            try #require(isWanted(answer) || !["succeeded", "failed", "canceled"].contains(answer["reason"]?.string ?? ""), "\(answer.text)")
            return isWanted(answer)
        }
        return answer
    }

    @Test func itIsSaidWhatJobsWaitFor() async throws {
        try await withBridge { bridge, simulator in
            let running = try await bridge.submit(Graph.delay(milliseconds: 600_000))
            let second = try await bridge.submit(Graph.picture(seed: 2))
            let third = try await bridge.submit(Graph.picture(seed: 3))
            let fourth = try await bridge.submit(Graph.picture(seed: 4))
            try await why(bridge, simulator, running) { $0["details"]?["node"]?["class_type"] == "SimDelay" }
            #expect(try await why(bridge, running)["reason"] == "running")
            let busy = try await why(bridge, simulator, second) { $0["reason"] == "comfyui_busy" }
            #expect(busy["message"]?.string?.contains("is busy with job \(running)") == true)
            #expect(try await why(bridge, third)["reason"] == "queued")
            let last = try await why(bridge, fourth)
            #expect(last["details"]?["queue_position"] == 1)
            #expect(last["message"]?.string?.contains("behind 1 other") == true)
            _ = try await bridge.send(.POST, "/api/v2/jobs/\(running)/cancel")
            _ = try await bridge.events(of: running)
            #expect(try await why(bridge, running)["reason"] == "canceled")
            _ = try await bridge.events(of: fourth)
            let done = try await why(bridge, fourth)
            #expect(done["reason"] == "succeeded")
            #expect(done["details"]?["outputs"] == 1)
            #expect(try await bridge.get("/api/v2/jobs/nope/why").status == 404)
        }
    }

    @Test func itIsSaidThatNoComfyUIIsThere() async throws {
        try await withSimulator { simulator, port in
            try await withBridge([port], ["--upstream-grace", "60"]) { bridge in
                await simulator.stop()
                try await bridge.until(isConnected: false)
                let id = try await bridge.submit(Graph.picture())
                let answer = try await why(bridge, id)
                #expect(answer["reason"] == "comfyui_unreachable")
                #expect(answer["details"]?["comfyui"]?[0]?["available"] == false)
                #expect(answer["message"]?.string?.contains("http://127.0.0.1:\(port)") == true)
            }
        }
    }

    // MARK: Log

    @Test func anEndedJobIsOneLine() async throws {
        let log = InMemoryLogHandler()
        var logger = Logger(label: "test") { _ in log }
        logger.logLevel = .debug
        try await withSimulator { _, port in
            try await withBridge([port], logger: logger) { bridge in
                let good = try #require(try await bridge.run(Graph.picture()).headers.first(name: "Comfy-Job-Id"))
                let bad = try #require(try await bridge.run(Graph.fails("no")).headers.first(name: "Comfy-Job-Id"))
                func ends(_ id: String) -> [InMemoryLogHandler.Entry] {
                    log.entries.filter { $0.message == "job ended" && $0.metadata["job.id"]?.description == id }
                }
                try await bridge.until("both ends are logged") { _ in !ends(good).isEmpty && !ends(bad).isEmpty }
                #expect(ends(good).count == 1)
                let entry = try #require(ends(good).first)
                #expect(entry.level == .info)
                #expect(entry.metadata["prompt.id"]?.description == good)
                #expect(entry.metadata["comfy.url"]?.description == "http://127.0.0.1:\(port)")
                #expect(entry.metadata["job.status"]?.description == "succeeded")
                #expect(entry.metadata["outputs"]?.description == "1")
                #expect(Int(entry.metadata["queue_ms"]?.description ?? "") != nil)
                #expect(Int(entry.metadata["execution_ms"]?.description ?? "") != nil)
                #expect(ends(bad).first?.metadata["error.code"]?.description == "node_execution_error")
                #expect(log.entries.contains { $0.level == .debug && $0.metadata["http.path"]?.description == "/run" && $0.metadata["http.status"]?.description == "200" })
            }
        }
    }
}
