import Foundation
import Logging
import OrderedCollections
import OrderedJSON
import Testing

@testable import Simulator

/// The simulated process ends, and comes back.
@Suite(.timeLimit(.minutes(5)))
struct RestartTests {
    @Test(arguments: [Moment.submit, .start, .node, .step(2), .success, .end, .view, .connect])
    func theProcessEndsAtAMoment(_ moment: Moment) async throws {
        try await withRestartingSimulator {
            $0.restartDelay = .zero
        } _: { server in
            let socket = try await server.socket()
            try await socket.messages { $0.type == "feature_flags" }
            server.simulator.faults.arm(.exit(moment), times: 1)
            let id = "00000000-0000-4000-8000-000000000001"
            switch moment {
            case .view: await #expect(throws: (any Error).self) { try await server.get("/view?filename=example.png&type=input") }
            case .connect: _ = try? await server.socket("other")
            default: _ = try? await server.submit(Graphs.textToImage(), ["prompt_id": .string(id)])
            }
            while let message = await socket.next() { #expect(!message.isEndOfRun && !message.kind.hasPrefix("close")) }
            try await server.waitUntilBack()
            #expect(try await server.get("/history").json == [:])
            #expect(try await server.get("/prompt").json["exec_info"]?["queue_remaining"] == 0)
            var expected = ComfySimulator.PromptCounts()
            switch moment {
            case .view, .connect: break
            case .submit:
                expected.accepted = 1
                expected.lost = 1
            case .end: expected = .init(accepted: 1, started: 1, finished: 1, forgotten: 1)
            default: expected = .init(accepted: 1, started: 1, lost: 1)
            }
            var counts = server.simulator.statistics.prompts[id] ?? .init()
            if moment == .submit { counts.started = 0 }  // the worker may have begun
            #expect(counts == expected)

            let again = try await server.socket()
            let answer = try await server.post("/prompt", ["prompt": Graphs.textToImage(), "prompt_id": .string(id), "client_id": "client-a"])
            #expect(answer.json["number"] == 0)
            let messages = try await again.messagesOfRun()
            #expect(messages.first { $0.type == "execution_cached" }?.data?["nodes"] == [])  // the cache is gone too
        }
    }

    @Test(arguments: [true, false]) func aRestartForgetsAndMayKeepFiles(_ keepsFiles: Bool) async throws {
        try await withRestartingSimulator { server in
            let socket = try await server.socket()
            let done = try await server.submit(Graphs.trivial())
            try await socket.messagesOfRun()
            let running = try await server.submit(Graphs.slow()), pending = try await server.submit(Graphs.trivial(color: 2))
            try await socket.messages { $0.data?["node"] == "2" }
            try await server.simulator.perform(.restart(after: .zero, keepsFiles: keepsFiles))
            while let message = await socket.next() { #expect(!message.kind.hasPrefix("close")) }
            #expect(try await server.get("/queue").json == ["queue_running": [], "queue_pending": []])
            #expect(try await server.get("/history").json == [:])
            #expect(try await server.get("/view?filename=t_00001_.png").status == (keepsFiles ? 200 : 404))
            #expect(try await server.get("/view?filename=example.png&type=input").status == 200)
            let counts = server.simulator.statistics.prompts
            #expect(counts[done] == .init(accepted: 1, started: 1, finished: 1, forgotten: 1))
            #expect(counts[running] == .init(accepted: 1, started: 1, lost: 1))
            #expect(counts[pending] == .init(accepted: 1, lost: 1))
            #expect(server.simulator.statistics.promptsRun == [done: 1, running: 1])
        }
    }

    @Test func whatKillsItKillsItAgain() async throws {
        try await withRestartingSimulator {
            $0.restartDelay = .zero
        } _: { server in
            server.simulator.faults.arm(.exit(.step(2)), only: "poison")
            for _ in 0..<3 {
                let socket = try await server.socket()
                _ = try await server.submit(Graphs.textToImage(text: "poison"))
                while await socket.next() != nil {}
                try await server.waitUntilBack()
            }
            let socket = try await server.socket()
            _ = try await server.submit(Graphs.textToImage(text: "honey"))
            try await socket.messagesOfRun()
            #expect(server.simulator.statistics.faultsFired == [.exit: 3])
        }
    }

    @Test func removedPromptsAreCounted() async throws {
        try await withRestartingSimulator { server in
            let running = try await server.submit(Graphs.slow())
            let one = try await server.submit(Graphs.trivial()), two = try await server.submit(Graphs.trivial())
            try await server.post("/queue", ["delete": [.string(one)]])
            try await server.post("/queue", ["clear": true])
            let counts = server.simulator.statistics.prompts
            #expect(counts[one] == .init(accepted: 1, removed: 1) && counts[two] == .init(accepted: 1, removed: 1))
            #expect(counts[running]?.removed == 0)
        }
    }

    /// What the command does: it ends when the process does.
    @Test func withoutAComebackTheServiceEnds() async throws {
        let simulator = ComfySimulator(configuration: .init(), logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        let server = TestServer(simulator: simulator, port: try await simulator.start(), keepsAlive: false)
        let life = Task { try await simulator.run() }
        try await server.post("/simulator/faults", ["action": "exit"])
        await #expect(throws: ComfySimulator.Killed.self) { try await life.value }
        #expect(await server.isGone())
        await #expect(throws: ComfySimulator.NotUp.self) { try await simulator.perform(.cut) }
    }

    /// In process it can be brought back by hand.
    @Test func anEndedProcessIsRestartedByHand() async throws {
        try await withRestartingSimulator { server in
            try await server.simulator.perform(.exit)
            #expect(await server.isGone())
            try await server.simulator.perform(.restart(after: .zero, keepsFiles: true))
            #expect(try await server.get("/prompt").status == 200)
        }
    }

    @Test func stoppingWhileItIsAwayIsFine() async throws {
        try await withRestartingSimulator {
            $0.restartDelay = .seconds(3600)
        } _: { server in
            try await server.simulator.perform(.exit)
        }
    }
}
