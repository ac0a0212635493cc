import NIOHTTP1
import OrderedCollections
import OrderedJSON
import Testing

@testable import Simulator

/// `/simulator/faults` and `/simulator/statistics`.
@Suite(.timeLimit(.minutes(5)))
struct FaultEndpointTests {
    @Test func armsListsAndClears() async throws {
        try await withSimulator { server in
            #expect(try await server.get("/simulator/faults").json == ["armed": [], "fired": [:]])
            let answer = try await server.post(
                "/simulator/faults", [["fault": "no-answer", "times": 3], ["fault": "exit=4~poison@0.5"], ["fault": "error", "only": "/history"]])
            let armed: JSON = [
                ["fault": "no-answer", "value": nil, "only": "POST /prompt", "times_left": 3, "probability": 1, "fired": 0],
                ["fault": "exit", "value": "4", "only": "poison", "times_left": nil, "probability": 0.5, "fired": 0],
                ["fault": "error", "value": "500", "only": "/history", "times_left": nil, "probability": 1, "fired": 0],
            ]
            #expect(answer.status == 200 && answer.json == ["armed": armed, "fired": [:]])
            #expect(try await server.get("/history").status == 500)
            let list = try await server.get("/simulator/faults").json
            #expect(list["armed"]?[2]?["fired"] == 1 && list["fired"] == ["error": 1])
            let cleared = try await server.request(.DELETE, "/simulator/faults")
            #expect(cleared.json == ["armed": [], "fired": ["error": 1]])
            #expect(try await server.get("/history").status == 200)
        }
    }

    @Test func isReachableWhenNothingElseIs() async throws {
        try await withSimulator {
            $0.faults = [FaultOrder(.error(503))]
        } _: { server in
            let refused = try await server.get("/system_stats")
            #expect(refused.status == 503)
            #expect(try await server.request(.DELETE, "/simulator/faults").status == 200)
            #expect(try await server.get("/system_stats").status == 200)
            #expect(try await server.get("/api/simulator/faults").status == 404)
        }
    }

    @Test(arguments: [
        "nonsense", "7", #"{"fault": "cat"}"#, #"{"action": "dance"}"#, #"{"action": "restart", "ms": -1}"#,
        #"{"action": "restart", "keep_files": 1}"#, #"[{"fault": "error"}, {"fault": "cat"}]"#, #"[{"fault": "error"}, {"action": "dance"}]"#,
    ])
    func refusesWhatItDoesNotUnderstand(_ body: String) async throws {
        try await withSimulator { server in
            let answer = try await server.request(.POST, "/simulator/faults", [:], Array(body.utf8))
            #expect(answer.status == 400 && answer.json["error"]?.string?.isEmpty == false)
            #expect(try await server.get("/simulator/faults").json["armed"] == [])
        }
    }

    @Test func actsAtOnce() async throws {
        try await withRestartingSimulator { server in
            let socket = try await server.socket()
            try await socket.messages { $0.type == "feature_flags" }
            #expect(try await server.post("/simulator/faults", ["action": "cut"]).status == 200)
            #expect(await socket.next() == nil)

            let second = try await server.socket()
            let id = try await server.submit(Graphs.trivial())
            try await second.messagesOfRun()
            #expect(try await server.post("/simulator/faults", ["action": "restart", "ms": 10, "keep_files": false]).status == 200)
            while await second.next() != nil {}
            try await server.waitUntilBack()
            #expect(try await server.get("/view?filename=t_00001_.png").status == 404)
            let statistics = try await server.get("/simulator/statistics").json
            #expect(
                statistics["prompts"]?[id]
                    == ["accepted": 1, "started": 1, "finished": 1, "removed": 0, "lost": 0, "forgotten": 1])
            #expect(statistics["frames_sent"]?.int ?? 0 > 5)
        }
    }

    @Test func filesOfAGivenFolderAreKept() async throws {
        let folder = try TemporaryFolder()
        let path = folder.path
        try await withRestartingSimulator {
            $0.directory = path
        } _: { server in
            let answer = try await server.post("/simulator/faults", ["action": "restart", "keep_files": false])
            #expect(answer.status == 400)
            try await server.simulator.perform(.restart(after: .zero, keepsFiles: false))
            #expect(try await server.get("/view?filename=example.png&type=input").status == 200)
        }
    }
}
