import ComfyUI
import Foundation
import NIOHTTP1
import OrderedCollections
import OrderedJSON
import Simulator
import Testing

@testable import API
@testable import Bridge
@testable import Jobs
@testable import Store
@testable import TestSupport
@testable import Workers

/// The bridge ends in the middle of something, and another one takes over its folder.
@Suite(.timeLimit(.minutes(5))) struct RestartTests {
    /// Runs both bodies with a bridge on the same folder; the first bridge is cut off.
    private func withRestart(
        _ flags: [String] = [], simulator change: (inout ComfySimulator.Configuration) -> Void = { _ in },
        before: (RunningBridge, ComfySimulator) async throws -> Void, after: (RunningBridge, ComfySimulator, _ folder: String) async throws -> Void
    ) async throws {
        try await withTemporaryFolder { folder in
            let flags = ["--data-dir", folder, "--public-url", "http://bridge.test"] + flags
            try await withSimulator(change) { simulator, port in
                try await withBridge([port], flags) { try await before($0, simulator) }
                try await withBridge([port], flags) { try await after($0, simulator, folder) }
            }
        }
    }

    @Test func jobsThatAreOverAnswerAsBefore() async throws {
        let graphs = [
            Graph.sampler(steps: 2), Graph.fails("boom"), Graph.output(["images": [["filename": "x.png"]], "text": ["a\u{0}b", "ü"], "other": [1, ["k": 2.50]]]), Graph.picture(),
        ]
        let paths = { (ids: [String]) in
            ids.flatMap { ["/api/v2/jobs/\($0)", "/api/v2/jobs/\($0)/workflow"] } + ["/api/v2/jobs", "/api/v2/jobs?status=failed&limit=1", "/api/v2/jobs?metadata[n]=2&limit=2"]
        }
        var ids: [String] = []
        var answers: [JSON] = []
        var events: [[RunningBridge.Event]] = []
        var snapshots: [[RunningBridge.Event]] = []
        try await withRestart(
            before: { bridge, _ in
                for (number, graph) in graphs.enumerated() {
                    ids.append(try await bridge.submit(graph, ["metadata": ["n": JSON(number), "seed": .number(JSONNumber(literal: "18446744073709551615"))], "priority": 3]))
                    try await bridge.events(of: ids[number])
                }
                for path in paths(ids) { answers.append(try await bridge.get(path).json) }
                for id in ids {
                    events.append(try await bridge.events(of: id, query: "?last_event_id=0").filter { $0.id != nil })
                    snapshots.append(try await bridge.events(of: id))
                }
                #expect(answers[0]["status"] == "succeeded" && answers[2]["error"]?["code"] == "node_execution_error" && answers.last?["jobs"]?.array?.count == 1)
            },
            after: { bridge, simulator, _ in
                for (path, expected) in zip(paths(ids), answers) {
                    let answer = try await bridge.get(path).json
                    #expect(answer == expected, "\(path)")
                }
                for (index, id) in ids.enumerated() {
                    let replay = try await bridge.events(of: id, query: "?last_event_id=0").filter { $0.id != nil }
                    #expect(replay == events[index])
                    let snapshot = try await bridge.events(of: id)
                    #expect(snapshot == snapshots[index])
                    let nothing = try await bridge.get("/api/v2/jobs/\(id)/events", [("Last-Event-ID", "\(events[index].last?.id ?? 0)")])
                    #expect(nothing.status == 204)
                }
                // Their outputs are where they were.
                let output = try #require(answers[0]["outputs"]?[0])
                let content = try await bridge.get("/api/v2/assets/\(output["id"]?.string ?? "")/content")
                #expect(content.status == 200 && content.body.count == output["size_bytes"]?.int)
                #expect(simulator.statistics.promptsAccepted == 4, "nothing ran again")
            })
    }

    @Test func jobsThatWaitedWaitAgainInTheirOrder() async throws {
        try await withTemporaryFolder { folder in
            let free = try await freePort()
            var ids: [String] = []
            func positions(_ bridge: RunningBridge) async throws -> [Int?] {
                var positions: [Int?] = []
                for id in ids { positions.append(try await bridge.job(id)["queue_position"]?.int) }
                return positions
            }
            let flags = ["--data-dir", folder, "--queue-limit", "5"]
            try await withBridge([free], flags, waitUntilReady: false) { bridge in
                for (number, priority) in [0, -3, 0, 7, 0].enumerated() { ids.append(try await bridge.submit(Graph.picture(seed: number), ["priority": JSON(priority)])) }
                let found = try await positions(bridge)
                #expect(found == [1, 4, 2, 0, 3])
            }
            try await withBridge([free], flags, waitUntilReady: false) { bridge in
                let found = try await positions(bridge)
                #expect(found == [1, 4, 2, 0, 3])
                let full = try await bridge.send(.POST, "/api/v2/jobs", body: (["workflow": Graph.picture()] as JSON).encoded())
                #expect(full.status == 429)
                let canceled = try await bridge.send(.POST, "/api/v2/jobs/\(ids[0])/cancel")
                #expect(try canceled.json["status"] == "canceled")
                ids.append(try await bridge.submit(Graph.picture(seed: 9), ["priority": 1]))
            }
            try await withSimulator({ $0.port = free }) { simulator, _ in
                try await withBridge([free], flags) { bridge in
                    for id in ids {
                        let status = try await bridge.events(of: id).last?.json["status"]?.string
                        #expect(status == (id == ids[0] ? "canceled" : "succeeded"))
                    }
                    let order = try await bridge.get("http://127.0.0.1:\(free)/history").json.object?.keys
                    #expect(order == [3, 5, 2, 4, 1].map { ids[$0] })
                    #expect(simulator.statistics.promptsAccepted == 5)
                }
            }
        }
    }

    @Test func aJobThatRanEndsAndItsViewerMissesNothing() async throws {
        var id = ""
        var seen: [Int] = []
        try await withRestart(
            before: { bridge, _ in
                id = try await bridge.submit(Graph.delay(milliseconds: 400))
                let events = try await bridge.events(of: id, query: "?last_event_id=0", until: { $0.json["status"] == "running" })
                seen = events.compactMap(\.id)
            },
            after: { bridge, simulator, _ in
                let events = try await bridge.events(of: id, [("Last-Event-ID", "\(seen.last ?? 0)")])
                seen += events.compactMap(\.id)
                #expect(simulator.statistics.promptsRun == [id: 1])
                #expect(!events.contains { $0.name == "reset" } && events.last?.json["status"] == "succeeded")
                #expect(seen == Array(1...seen.count))
                let job = try await bridge.job(id)
                #expect(job["outputs"]?.array?.count == 1)
            })
    }

    @Test func progressGoesOnWhereItWas() async throws {
        var id = ""
        var before: [RunningBridge.Event] = []
        var known: JSON = .null
        try await withRestart(
            simulator: { $0.stepDelay = .milliseconds(150) },
            before: { bridge, _ in
                id = try await bridge.submit(Graph.sampler(steps: 30))
                before = try await bridge.events(of: id, query: "?last_event_id=0", until: { $0.name == "progress" && $0.json["step"] == 6 })
                // What is older than a tenth of a second is written down.
                try await bridge.events(of: id, until: { $0.name == "progress" && $0.json["step"]?.int ?? 0 >= 9 })
                known = try await bridge.job(id)["progress"] ?? .null
            },
            after: { bridge, simulator, _ in
                let first = try await bridge.job(id)["progress"]
                // It may have come further meanwhile.
                #expect(first?["nodes_done"]?.int ?? -1 >= known["nodes_done"]?.int ?? 99 && first?["value"]?.double ?? 0 >= before.last?.json["value"]?.double ?? 1)
                let last = before.last { $0.id != nil }?.id ?? 0
                let after = try await bridge.events(of: id, [("Last-Event-ID", "\(last)")])
                #expect(after.last?.json["status"] == "succeeded", "\(after.suffix(3))")
                let progress = (before + after).filter { $0.name == "progress" }.map(\.json)
                for (one, next) in zip(progress, progress.dropFirst()) {
                    #expect(one["value"]?.double ?? 2 <= next["value"]?.double ?? -1 && one["nodes_done"]?.int ?? 99 <= next["nodes_done"]?.int ?? -1, "\(one) \(next)")
                }
                let nodes = (before.filter { $0.id != nil } + after).filter { $0.name == "node" }.map { "\($0.json["node_id"]?.string ?? "") \($0.json["state"]?.string ?? "")" }
                #expect(Set(nodes).count == nodes.count, "\(nodes)")
                // Numbers of previews are in links.
                let previews = (before + after).filter { $0.name == "preview" }.compactMap { $0.json["number"]?.int }
                #expect(previews == previews.sorted() && Set(previews).count == previews.count)
                #expect(simulator.statistics.promptsRun == [id: 1])
            })
    }

    @Test func aStopWhileOutputsAreLookedUpLeavesThemToTheNextBridge() async throws {
        var id = ""
        try await withRestart(
            before: { bridge, simulator in
                simulator.faults.arm(.delayAnswer(milliseconds: 60_000), only: "/view", times: 1)
                id = try await bridge.submit(Graph.picture())
                try await simulator.until("a fault has struck") { !$0.faultsFired.isEmpty }
            },
            after: { bridge, simulator, _ in
                let status = try await bridge.events(of: id).last?.json["status"]
                #expect(status == "succeeded")
                let outputs = try await bridge.job(id)["outputs"]?.array
                #expect(outputs?.count == 1)
                #expect(outputs?.first?["content_type"] == "image/png" && outputs?.first?["size_bytes"]?.int ?? 0 > 0)
                #expect(simulator.statistics.promptsRun == [id: 1])
            })
    }

    @Test func whatARunHadMadeBeforeIsNotMadeTwice() async throws {
        let graph: JSON = [
            "1": ["class_type": "EmptyImage", "inputs": ["width": 16, "height": 16, "batch_size": 1, "color": 3]],
            "2": ["class_type": "SaveImage", "inputs": ["images": ["1", 0], "filename_prefix": "early"]],
            "3": ["class_type": "SimOutput", "inputs": ["output": #"{"text": ["early too"]}"#, "bytes": 0]],
            "4": ["class_type": "SimDelay", "inputs": ["image": ["1", 0], "milliseconds": 700, "interruptible": true]],
            "5": ["class_type": "SaveImage", "inputs": ["images": ["4", 0], "filename_prefix": "late"]],
        ]
        var id = ""
        var early: [RunningBridge.Event] = []
        try await withRestart(
            before: { bridge, _ in
                id = try await bridge.submit(graph)
                var outputs = 0
                early = try await bridge.events(of: id, query: "?last_event_id=0") { event in
                    if event.name == "output" { outputs += 1 }
                    return outputs == 2
                }.filter { $0.id != nil }
            },
            after: { bridge, simulator, _ in
                let late = try await bridge.events(of: id, [("Last-Event-ID", "\(early.last?.id ?? 0)")]).filter { $0.id != nil }
                let events = early + late
                #expect(events.compactMap(\.id) == Array(1...events.count) && events.last?.json["status"] == "succeeded")
                let told = events.filter { $0.name == "output" }.compactMap { $0.json["id"]?.string }
                let job = try await bridge.job(id)
                // They are told as they come, and listed in the order of the graph.
                #expect(told.count == 3 && job["outputs"]?.array?.compactMap { $0["id"]?.string }.sorted() == told.sorted())
                #expect(simulator.statistics.promptsRun == [id: 1])
            })
    }

    @Test func aViewerOfAJobThatWaitsMissesNothing() async throws {
        var id = ""
        var seen: [Int] = []
        try await withTemporaryFolder { folder in
            let free = try await freePort()
            try await withBridge([free], ["--data-dir", folder], waitUntilReady: false) { bridge in
                id = try await bridge.submit(Graph.picture())
                seen = try await bridge.events(of: id, query: "?last_event_id=0", until: { $0.id != nil }).compactMap(\.id)
            }
            try await withSimulator({ $0.port = free }) { _, _ in
                try await withBridge([free], ["--data-dir", folder]) { bridge in
                    let events = try await bridge.events(of: id, [("Last-Event-ID", "\(seen.last ?? 0)")])
                    seen += events.compactMap(\.id)
                    #expect(seen == Array(1...seen.count) && events.last?.json["status"] == "succeeded")
                }
            }
        }
    }

    @Test func bytesThatAreNowhereElseSurvive() async throws {
        var output: JSON = .null
        var bytes: [UInt8] = []
        try await withRestart(
            before: { bridge, _ in
                let graph: JSON = [
                    "1": ["class_type": "EmptyImage", "inputs": ["width": 24, "height": 24, "batch_size": 1, "color": 255]],
                    "2": ["class_type": "SaveImageWebsocket", "inputs": ["images": ["1", 0]]],
                ]
                output = try #require(try await bridge.run(graph).json["outputs"]?[0])
                bytes = try await bridge.get("/api/v2/assets/\(output["id"]?.string ?? "")/content").body
                #expect(bytes.count == output["size_bytes"]?.int && bytes.count > 0)
            },
            after: { bridge, _, _ in
                let content = try await bridge.get("/api/v2/assets/\(output["id"]?.string ?? "")/content")
                #expect(content.body == bytes)
                let known = try await bridge.send(.HEAD, "/api/v2/assets/by-hash/\(output["hash"]?.string ?? "")")
                #expect(known.status == 200)
            })
    }

    @Test func uploadsAreFoundByIDNameAndHash() async throws {
        var asset: JSON = .null
        var picture: [UInt8] = []
        func load(_ image: JSON, prefix: String) -> JSON {
            [
                "1": ["class_type": "LoadImage", "inputs": ["image": image]],
                "2": ["class_type": "SaveImage", "inputs": ["images": ["1", 0], "filename_prefix": .string(prefix)]],
            ]
        }
        try await withRestart(
            before: { bridge, _ in
                picture = try await bridge.run(Graph.picture(seed: 77), [("Accept", "image/png")]).body
                asset = try await bridge.upload(picture, ["file_path": "kept/photo.png", "content_type": "image/png", "tags": "input", "expires_in": "3600"]).json
            },
            after: { bridge, _, _ in
                let id = asset["id"]?.string ?? ""
                let again = try await bridge.get("/api/v2/assets/\(id)").json
                var expected = asset.object
                expected?["created_new"] = nil
                #expect(again.object == expected)
                for image: JSON in ["kept/photo.png", ["__type": "core/ASSET", "info": ["id": .string(id)]]] {
                    let answer = try await bridge.run(load(image, prefix: "r"))
                    #expect(answer.status == 200, "\(String(decoding: answer.body, as: UTF8.self))")
                }
                let minted = try await bridge.send(.POST, "/api/v2/assets/from-hash", body: (["hash": asset["hash"] ?? .null, "file_path": "b.png"] as JSON).encoded())
                #expect(minted.status == 201)
                let second = try await bridge.upload(picture, ["file_path": "c.png"])
                #expect(second.status == 200, "the bytes were known")
                let deleted = try await bridge.send(.DELETE, "/api/v2/assets/\(id)")
                #expect(deleted.status == 204)
                let content = try await bridge.get("/api/v2/assets/\(try second.json["id"]?.string ?? "")/content")
                #expect(content.body == picture)
            })
    }

    @Test func usedKeysStayUsed() async throws {
        var id = ""
        let key = [("Idempotency-Key", "once")]
        try await withRestart(
            before: { bridge, _ in
                id = try await bridge.run(Graph.picture(), key).json["id"]?.string ?? ""
                let upload = try await bridge.upload([1], ["file_path": "a"], key)
                #expect(upload.status == 201)
            },
            after: { bridge, simulator, _ in
                let same = try await bridge.run(Graph.picture(), key)
                #expect(same.status == 200)
                #expect(try same.json["id"]?.string == id)
                let other = try await bridge.run(Graph.picture(seed: 2), key)
                #expect(other.status == 422 && other.errorCode == "idempotency_key_reuse")
                let submitted = try await bridge.send(.POST, "/api/v2/jobs", key, body: (["workflow": Graph.picture()] as JSON).encoded())
                #expect(submitted.status == 422)
                let upload = try await bridge.upload([1], ["file_path": "a"], key)
                #expect(upload.status == 422)
                #expect(simulator.statistics.promptsAccepted == 1)
            })
    }

    @Test func credentialsAreNeverStoredAndTheirJobSaysSo() async throws {
        let secret = "sk-marker-5d20"
        try await withTemporaryFolder { folder in
            let free = try await freePort()
            var id = "", other = ""
            try await withBridge([free], ["--data-dir", folder], waitUntilReady: false) { bridge in
                id = try await bridge.submit(Graph.picture(), ["extra_data": ["api_key_comfy_org": .string(secret)]])
                other = try await bridge.submit(Graph.picture(), ["extra_data": ["extra_pnginfo": ["workflow": ["nodes": []]]]])
                try expectNowhere(secret, in: folder)
            }
            try expectNowhere(secret, in: folder)
            try await withSimulator({ $0.port = free }) { simulator, _ in
                try await withBridge([free], ["--data-dir", folder]) { bridge in
                    let events = try await bridge.events(of: id)
                    #expect(events.last?.json["status"] == "failed" && events.last?.json["error"]?["code"] == "credentials_lost")
                    let ended = try await bridge.events(of: other)
                    #expect(ended.last?.json["status"] == "succeeded")
                    #expect(simulator.statistics.promptsAccepted == 1)
                    // While one runs, too.
                    let running = try await bridge.submit(Graph.delay(milliseconds: 200), ["extra_data": ["api_key_comfy_org": .string(secret)]])
                    try await bridge.events(of: running, until: { $0.json["status"] == "running" })
                    try expectNowhere(secret, in: folder)
                }
            }
        }
    }

    @Test func theFolderHasOneBridge() async throws {
        try await withTemporaryFolder { folder in
            try await withBridge(["--data-dir", folder]) { bridge, _ in
                await #expect(throws: ConfigurationError.self) { try await withBridge([1], ["--data-dir", folder], waitUntilReady: false) { _ in } }
                let answer = try await bridge.run(Graph.picture())
                #expect(answer.status == 200)
            }
        }
    }

    @Test func aJobOfAComfyUIThatIsGoneRunsOnAnother() async throws {
        try await withTemporaryFolder { folder in
            var id = ""
            try await withSimulator { first, port in
                try await withBridge([port], ["--data-dir", folder]) { bridge in
                    id = try await bridge.submit(Graph.delay(milliseconds: 60_000))
                    try await bridge.events(of: id, until: { $0.json["status"] == "running" })
                }
            }
            try await withSimulator { second, port in
                try await withBridge([port], ["--data-dir", folder]) { bridge in
                    try await second.until("it runs") { $0.promptsRun[id] != nil }
                    let canceled = try await bridge.send(.POST, "/api/v2/jobs/\(id)/cancel")
                    #expect(canceled.status == 200)
                    let events = try await bridge.events(of: id)
                    #expect(events.last?.json["status"] == "canceled")
                }
            }
        }
    }
}
