import Foundation
import Logging
import OrderedCollections
import OrderedJSON
import Testing

@testable import Simulator

/// Order, duplicates, a dead worker, start and stop.
@Suite(.timeLimit(.minutes(5)))
struct QueueTests {
    @Test func frontAndNumberOvertake() async throws {
        try await withSimulator { server in
            let socket = try await server.socket()
            let first = try await server.submit(Graphs.slow())
            try await socket.messages { $0.data?["node"] == "2" }
            var ids: [String] = []
            for more in [[:], ["front": true], ["number": -7.5], ["number": "3"]] as [JSONObject] {
                ids.append(try await server.submit(Graphs.trivial(color: ids.count + 10), more))
            }
            let pending = try await server.get("/queue").json["queue_pending"]?.array ?? []
            #expect(Set(pending.compactMap { $0[0]?.number?.literal }) == ["1", "-2", "-7.5", "3.0"])
            try await server.post("/interrupt", ["prompt_id": .string(first)])
            var order: [JSON] = []
            while order.count < 4 { order.append(try await socket.message("execution_start")["prompt_id"] ?? .null) }
            #expect(order == [ids[2], ids[1], ids[0], ids[3]].map(JSON.string))
            #expect(server.simulator.statistics.promptsAccepted == 5)
            #expect(server.simulator.statistics.promptsRun[first] == 1)
            #expect(server.simulator.statistics.framesSent > 0)
        }
    }

    /// Three equal entries: taking one out compares two equal ones, and the worker dies.
    @Test func threeEqualPromptsKillTheWorker() async throws {
        try await withSimulator { server in
            let socket = try await server.socket()
            let first = try await server.submit(Graphs.slow())
            try await socket.messages { $0.data?["node"] == "2" }
            let body: JSON = [
                "prompt": Graphs.trivial(), "client_id": "client-a", "number": 5, "prompt_id": "dddddddd-1111-4000-8000-000000000001",
            ]
            #expect(try await server.post("/prompt", body).status == 200)
            #expect(try await server.post("/prompt", body).status == 500)
            #expect(try await server.post("/prompt", body).status == 500)
            #expect(try await server.get("/queue").json["queue_pending"]?.array?.count == 3)
            try await server.post("/interrupt", ["prompt_id": .string(first)])
            try await socket.messagesOfRun()
            _ = try await server.submit(Graphs.trivial(color: 9))
            let queue = try await server.get("/queue").json
            #expect(queue["queue_running"] == [] && (queue["queue_pending"]?.array?.count ?? 0) > 0)
            #expect(try await server.get("/system_stats").status == 200)
        }
    }

    @Test func nullExtraDataKillsTheOldWorker() async throws {
        try await withSimulator {
            $0.compatibility = .v0_3_64
        } _: { server in
            let socket = try await server.socket(flags: false)
            _ = await socket.next()
            let body: JSON = ["prompt": Graphs.trivial(), "extra_data": nil]
            #expect(try await server.post("/prompt", body).status == 200)
            for _ in 0..<2 { #expect(await socket.next()?.type == "status") }
            _ = try await server.submit(Graphs.trivial())
            #expect(try await server.get("/prompt").json["exec_info"]?["queue_remaining"] == 2)
        }
    }

    @Test func aBusyPortIsAnErrorOfStart() async throws {
        try await withSimulator { server in
            var configuration = ComfySimulator.Configuration()
            configuration.port = server.port
            let second = ComfySimulator(configuration: configuration, logger: .init(label: "test"))
            await #expect(throws: (any Error).self) { _ = try await second.start() }
        }
    }

    @Test func aRestartKeepsOutputsAndForgetsTheRest() async throws {
        let folder = try TemporaryFolder()
        let path = folder.path
        let id = try await withSimulator {
            $0.directory = path
        } _: { server in
            let socket = try await server.socket()
            let id = try await server.submit([
                "1": ["class_type": "EmptyImage", "inputs": ["width": 8, "height": 8, "batch_size": 1, "color": 0]],
                "2": ["class_type": "SaveImage", "inputs": ["images": ["1", 0], "filename_prefix": "kept"]],
                "3": ["class_type": "PreviewImage", "inputs": ["images": ["1", 0]]],
            ])
            try await socket.messagesOfRun()
            return id
        }
        try await withSimulator {
            $0.directory = path
        } _: { server in
            #expect(try await server.history(id) == nil)
            #expect(try await server.get("/view?filename=kept_00001_.png").status == 200)
            #expect(try FileManager.default.contentsOfDirectory(atPath: path + "/temp") == [])
            let answer = try await server.post("/prompt", ["prompt": Graphs.trivial(prefix: "kept"), "client_id": "c"])
            #expect(answer.json["number"] == 0)
            let socket = try await server.socket("d", flags: false)
            _ = try await server.submit(Graphs.trivial(color: 9, prefix: "kept"), client: "d")
            #expect(try await socket.message("executed")["output"]?["images"]?[0]?["filename"] == "kept_00003_.png")
        }
    }

    @Test func aForeignTempFolderIsNotEmptied() throws {
        let folder = try TemporaryFolder()
        try FileManager.default.createDirectory(atPath: folder.path + "/temp", withIntermediateDirectories: true)
        try Folders.write([1], to: folder.path + "/temp/mine")
        #expect(throws: Folders.ForeignTemp.self) { try Folders(root: folder.path) }
        #expect(FileManager.default.fileExists(atPath: folder.path + "/temp/mine"))
    }
}
