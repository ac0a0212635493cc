import OrderedCollections
import OrderedJSON
import Testing

@testable import Simulator

/// Runs, the worker and the history that go wrong.
@Suite(.timeLimit(.minutes(5)))
struct RunFaultTests {
    @Test(arguments: [
        (Fault.outOfMemory(.node), "torch.OutOfMemoryError", "1"), (.outOfMemory(.step(2)), "torch.OutOfMemoryError", "3"),
        (.deviceError(.node), "torch.AcceleratorError", "1"), (.deviceError(.step(1)), "torch.AcceleratorError", "3"),
    ])
    func nodesFailAsDevicesDo(_ fault: Fault, _ type: String, _ node: String) async throws {
        try await withSimulator { server in
            let socket = try await server.socket()
            server.simulator.faults.arm(fault, times: 1)
            var graph: JSONObject = fault.moment == .node ? [:] : Graphs.textToImage().object ?? [:]
            if graph.isEmpty { graph = Graphs.trivial().object ?? [:] }
            let id = try await server.submit(.object(graph))
            let error = try await socket.message("execution_error")
            #expect(error["exception_type"]?.string == type && error["node_id"]?.string == node)
            #expect(error["exception_message"]?.string?.contains("ran out of memory on your GPU") == (type == "torch.OutOfMemoryError"))
            try await socket.messagesOfRun()
            #expect(try await server.history(id)?["status"]?["status_str"] == "error")
            _ = try await server.submit(.object(graph))
            #expect(try await socket.messagesOfRun().contains { $0.type == "execution_success" })
        }
    }

    /// The moment, and whether the run has left the queue by then.
    @Test(arguments: [(Moment.start, false), (.node, false), (.step(1), false), (.success, false), (.end, true)])
    func theWorkerDies(_ moment: Moment, _ hasFinished: Bool) async throws {
        try await withRestartingSimulator { server in
            let socket = try await server.socket()
            server.simulator.faults.arm(.deadWorker(moment))
            let id = try await server.submit(Graphs.textToImage())
            if hasFinished {
                try await server.waitForHistory(id)
            } else {
                try await socket.messages { $0.type == "execution_start" }
            }
            let next = try await server.submit(Graphs.trivial())
            let queue = try await server.get("/queue").json
            #expect(queue["queue_running"]?.array?.map { $0[1]?.string } == (hasFinished ? [] : [id]))
            #expect(queue["queue_pending"]?.array?.map { $0[1]?.string } == [next])
            #expect(try await server.get("/system_stats").status == 200)
            try await server.simulator.perform(.restart(after: .zero, keepsFiles: true))
            let counts = server.simulator.statistics.prompts
            #expect(counts[next] == .init(accepted: 1, lost: 1))
            #expect(
                counts[id]
                    == (hasFinished ? .init(accepted: 1, started: 1, finished: 1, forgotten: 1) : .init(accepted: 1, started: 1, lost: 1)))
        }
    }

    @Test func theWorkerDiesAtOnce() async throws {
        try await withSimulator { server in
            let socket = try await server.socket()
            let running = try await server.submit(Graphs.slow())
            try await socket.messages { $0.data?["node"] == "2" }
            try await server.simulator.perform(.deadWorker)
            try await server.post("/interrupt", [:])
            let pending = try await server.submit(Graphs.trivial())
            let queue = try await server.get("/queue").json
            #expect(queue["queue_running"]?[0]?[1]?.string == running && queue["queue_pending"]?[0]?[1]?.string == pending)
        }
    }

    // MARK: History

    private func history(_ fault: Fault, _ check: (TestServer, _ id: String, JSON?) async throws -> Void) async throws {
        try await withSimulator { server in
            let socket = try await server.socket()
            server.simulator.faults.arm(fault, only: "marked")
            let id = try await server.submit(Graphs.trivial(prefix: "marked"))
            try await socket.messagesOfRun()
            #expect(try await server.get("/queue").json["queue_running"] == [])
            try await check(server, id, try await server.history(id))
            let other = try await server.submit(Graphs.trivial(color: 5))
            try await socket.messagesOfRun()
            #expect(try await server.history(other)?["outputs"]?["2"]?["images"]?[0]?["filename"] == "t_00001_.png")
        }
    }

    @Test func anEntryIsMissing() async throws {
        try await history(.historyMissing) { server, id, entry in
            #expect(entry == nil)
            let job = try await server.get("/api/jobs/\(id)")
            #expect(job.status == 404)
            #expect(server.simulator.statistics.prompts[id] == .init(accepted: 1, started: 1, finished: 1, forgotten: 1))
        }
    }

    @Test func anEntryIsLate() async throws {
        try await history(.historyLate(milliseconds: 3_600_000)) { _, _, entry in #expect(entry == nil) }
        try await history(.historyLate(milliseconds: 50)) { server, id, _ in
            let late = try await server.waitForHistory(id)
            #expect(late["status"]?["completed"] == true)
        }
    }

    @Test func anEntryThatIsNotThereYetGoesDownWithTheProcess() async throws {
        try await withSimulator { server in
            let socket = try await server.socket()
            server.simulator.faults.arm(.historyLate(milliseconds: 3_600_000))
            let id = try await server.submit(Graphs.trivial(prefix: "marked"))
            try await socket.messagesOfRun()
            try await server.simulator.perform(.exit)
            #expect(server.simulator.statistics.prompts[id] == .init(accepted: 1, started: 1, finished: 1, forgotten: 1))
        }
    }

    @Test func anEntryHasOtherOutputs() async throws {
        try await history(.historyOutputs(.renamed)) { server, _, entry in
            let name = try #require(entry?["outputs"]?["2"]?["images"]?[0]?["filename"]?.string)
            #expect(name == "missing_marked_00001_.png")
            #expect(try await server.get("/view?filename=\(name)").status == 404)
        }
        try await history(.historyOutputs(.empty)) { _, _, entry in #expect(entry?["outputs"] == [:]) }
        try await history(.historyOutputs(.garbage)) { server, id, entry in
            #expect(entry?["outputs"]?.array != nil)
            let job = try await server.get("/api/jobs/\(id)").json
            #expect(job["outputs"]?.array != nil)
        }
    }
}
