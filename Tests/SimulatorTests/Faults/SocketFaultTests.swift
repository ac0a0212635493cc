import NIOWebSocket
import OrderedCollections
import OrderedJSON
import Testing

@testable import Simulator

/// Sockets and messages that go wrong.
@Suite(.timeLimit(.minutes(5)))
struct SocketFaultTests {
    /// The moment, a message that still comes, and one that does not any more.
    @Test(arguments: [
        (Moment.submit, "status", "execution_start"), (.start, "execution_start", "execution_cached"), (.node, "executing", "executed"),
        (.step(2), "progress", "executed"), (.success, "executed", "execution_success"), (.end, "execution_success", "end"),
    ])
    func socketsAreCutAtAMoment(_ moment: Moment, _ last: String, _ missing: String) async throws {
        try await withSimulator { server in
            let socket = try await server.socket()
            server.simulator.faults.arm(.cut(moment), times: 1)
            let id = try await server.submit(Graphs.textToImage())
            var kinds: [String] = []
            while let message = await socket.next() { kinds.append(message.isEndOfRun ? "end" : message.kind) }
            #expect(kinds.contains(last) && !kinds.contains(missing) && !kinds.contains { $0.hasPrefix("close") })
            try await server.waitForHistory(id)  // the run does not care
            #expect(server.simulator.statistics.faultsFired == [.cut: 1])
        }
    }

    @Test func onlyTheSocketOfThePromptIsCut() async throws {
        try await withSimulator { server in
            let own = try await server.socket("own"), other = try await server.socket("other")
            server.simulator.faults.arm(.cut(.start))
            _ = try await server.submit(Graphs.trivial(), client: "own")
            while await own.next() != nil {}
            server.simulator.faults.clear()
            _ = try await server.submit(Graphs.trivial(color: 2), client: "other")
            try await other.messagesOfRun()
        }
    }

    @Test func socketsAreCutWhenTheyConnect() async throws {
        try await withSimulator { server in
            server.simulator.faults.arm(.cut(.connect), times: 1)
            let socket = try await server.socket(flags: false)
            while let message = await socket.next() { #expect(message.type == "status") }
            let second = try await server.socket()
            try await second.messages { $0.type == "feature_flags" }
        }
    }

    @Test func socketsAreCutWhileAFileIsFetched() async throws {
        try await withSimulator { server in
            let socket = try await server.socket(flags: false)
            server.simulator.faults.arm(.cut(.view))
            #expect(try await server.get("/view?filename=example.png&type=input").status == 200)
            #expect(await socket.next()?.type == "status")
            #expect(await socket.next() == nil)
        }
    }

    @Test func aMutedSocketAnswersPingsOnly() async throws {
        try await withSimulator { server in
            server.simulator.faults.arm(.mute(.connect), only: "client-a", times: 1)
            let muted = try await server.socket(), witness = try await server.socket("witness")
            #expect(await muted.next()?.type == "status")
            _ = try await server.submit(Graphs.trivial())
            _ = try await server.submit(Graphs.trivial(color: 2), client: "witness")
            try await witness.messagesOfRun()  // so everything for the other one has been sent
            try await muted.send(.ping, [])
            #expect(try await muted.messages { $0.kind == "pong" }.map(\.kind) == ["pong"])
        }
    }

    @Test func aHalfOpenSocketIsSilentEvenToPings() async throws {
        try await withSimulator { server in
            let socket = try await server.socket(), witness = try await server.socket("witness")
            server.simulator.faults.arm(.halfOpen(.start), times: 1)
            _ = try await server.submit(Graphs.trivial())
            try await socket.messages { $0.type == "execution_start" }
            _ = try await server.submit(Graphs.trivial(color: 2), client: "witness")
            try await witness.messagesOfRun()
            try await socket.send(.ping, [])
            try await socket.send(.connectionClose, [3, 232])
            #expect(try await server.get("/prompt").status == 200)  // by the same loop that would have answered
            try await server.simulator.perform(.noticeHalfOpen)
            #expect(await socket.next() == nil)  // neither pong nor close in between
        }
    }

    /// The server notices a dead peer late, and then forgets the socket that has its id by now.
    @Test func aHalfOpenSocketTakesItsSuccessorWithIt() async throws {
        try await withSimulator { server in
            let first = try await server.socket(flags: false)
            _ = await first.next()
            try await server.simulator.perform(.halfOpen)
            try await first.drop()
            let second = try await server.socket(flags: false)
            _ = try await server.submit(Graphs.trivial())
            try await second.messagesOfRun()
            try await server.simulator.perform(.noticeHalfOpen)
            let witness = try await server.socket("witness")
            _ = try await server.submit(Graphs.trivial(color: 2), client: "witness")
            try await witness.messagesOfRun()
            try await second.send(.ping, [])
            #expect(try await second.messages { $0.kind == "pong" }.map(\.kind) == ["pong"])
        }
    }

    @Test func allSocketsAreCutOrMutedAtOnce() async throws {
        try await withSimulator { server in
            let muted = [try await server.socket("a", flags: false), try await server.socket("b", flags: false)]
            for socket in muted { #expect(await socket.next()?.type == "status") }
            try await server.simulator.perform(.mute)
            let cut = [try await server.socket("c", flags: false), try await server.socket("d", flags: false)]
            for socket in cut { #expect(await socket.next()?.type == "status") }
            try await server.simulator.perform(.cut)
            for socket in cut { #expect(await socket.next() == nil) }
            for socket in muted {
                try await socket.send(.ping, [])
                #expect(await socket.next()?.kind == "pong")
            }
        }
    }

    // MARK: Final messages

    private static let cases: [(Fault.FinalMessage, ends: Int, outcomes: Int)] = [(.end, 1, 0), (.outcome, 0, 1), (.both, 1, 1)]

    /// How often a prompt's final messages came, up to those of the next prompt.
    private func finals(_ fault: Fault, _ graph: JSON) async throws -> (ends: Int, outcomes: Int) {
        try await withSimulator { server in
            let socket = try await server.socket()
            server.simulator.faults.arm(fault, times: fault.choice == "both" ? 2 : 1)
            let first = try await server.submit(graph), second = try await server.submit(Graphs.trivial(color: 9))
            let messages = try await socket.messages { $0.isEndOfRun && $0.data?["prompt_id"]?.string == second }
                .filter { $0.data?["prompt_id"]?.string == first }
            let outcomes: Set = ["execution_success", "execution_error"]
            #expect(try await server.history(first)?["status"]?["messages"]?.array?.last?[0]?.string.map(outcomes.contains) == true)
            return (messages.count(where: \.isEndOfRun), messages.count { $0.type.map(outcomes.contains) == true })
        }
    }

    @Test(arguments: cases) func finalMessagesAreDropped(_ message: Fault.FinalMessage, _ ends: Int, _ outcomes: Int) async throws {
        let counts = try await finals(.dropFinal(message), Graphs.trivial())
        #expect(counts == (1 - ends, 1 - outcomes))
        let ofFailure = try await finals(.dropFinal(message), Graphs.trivial(prefix: "../../x"))
        #expect(ofFailure == counts)
    }

    @Test(arguments: cases) func finalMessagesComeTwice(_ message: Fault.FinalMessage, _ ends: Int, _ outcomes: Int) async throws {
        #expect(try await finals(.duplicateFinal(message), Graphs.trivial()) == (1 + ends, 1 + outcomes))
    }

    @Test func finalMessagesComeLate() async throws {
        try await withSimulator { server in
            let socket = try await server.socket()
            server.simulator.faults.arm(.delayFinal(milliseconds: 300), times: 1)
            let start = ContinuousClock.now
            let id = try await server.submit(Graphs.trivial())
            let kinds = try await socket.messages { $0.type == "execution_success" }.map(\.kind)
            #expect(ContinuousClock.now - start >= .milliseconds(300))
            #expect(kinds.count { $0 == "status" } == 3)  // what comes behind it waits too
            #expect(try await server.history(id) != nil)
            try await socket.messagesOfRun()
        }
    }

    // MARK: Frames

    @Test(arguments: [true, false]) func aFrameIsHuge(_ negotiates: Bool) async throws {
        try await withSimulator { server in
            let socket = try await server.socket(flags: negotiates)
            server.simulator.faults.arm(.hugeFrame(megabytes: 8), times: 1)
            let id = try await server.submit(Graphs.trivial())
            let frames = try await socket.messagesOfRun().compactMap(\.bytes)
            let frame = try #require(frames.first)
            #expect(frames.count == 1 && frame.count > 8 << 20 && frame[3] == (negotiates ? 4 : 1))
            guard negotiates else { return }
            let length = frame[4..<8].reduce(0) { $0 << 8 | Int($1) }
            let metadata = try JSON(parsing: frame[8..<8 + length])
            #expect(metadata["prompt_id"]?.string == id && metadata["node_id"] == "1")
        }
    }

    @Test func aFrameLiesAboutItsLength() async throws {
        try await withSimulator { server in
            let socket = try await server.socket()
            server.simulator.faults.arm(.lyingLength(0x1234_5678), times: 1)
            _ = try await server.submit(Graphs.trivial())
            let frames = try await socket.messagesOfRun().compactMap(\.bytes)
            #expect(frames.map { Array($0.prefix(8)) } == [[0, 0, 0, 4, 0x12, 0x34, 0x56, 0x78]])
        }
    }

    @Test func theClockJumps() async throws {
        try await withSimulator { server in
            let socket = try await server.socket()
            func timestamps() async throws -> [Int] {
                let id = try await server.submit(Graphs.trivial())
                try await socket.messagesOfRun()
                return try await server.history(id)?["status"]?["messages"]?.array?.compactMap { $0[1]?["timestamp"]?.int } ?? []
            }
            let hour = 3_600_000
            let before = try await timestamps()
            server.simulator.faults.arm(.clock(milliseconds: -hour), times: 1)
            let back = try await timestamps(), after = try await timestamps()
            #expect(back.count == 3 && back.allSatisfy { $0 < before[0] - hour / 2 } && after.allSatisfy { $0 < before[0] - hour / 2 })
            server.simulator.faults.clear()
            #expect(try await timestamps().allSatisfy { $0 >= before[2] })
        }
    }
}
