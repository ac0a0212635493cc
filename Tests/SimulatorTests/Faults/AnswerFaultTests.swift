import AsyncHTTPClient
import NIOCore
import NIOHTTP1
import OrderedCollections
import OrderedJSON
import Testing

@testable import Simulator

/// Answers of HTTP that go wrong.
@Suite(.timeLimit(.minutes(5)))
struct AnswerFaultTests {
    @Test func aRequestIsRefused() async throws {
        try await withSimulator { server in
            let faults = server.simulator.faults
            for (status, text) in [
                (500, "500 Internal Server Error\n\nServer got itself in trouble"), (413, "Maximum request body size 104857600 exceeded."),
                (503, "503: Service Unavailable"),
            ] {
                faults.arm(.error(status), only: "POST /prompt", times: 1)
                #expect(try await server.get("/prompt").status == 200)
                let answer = try await server.post("/api/prompt", ["prompt": Graphs.trivial()])
                #expect(answer.status == status && answer.text == text)
            }
            #expect(server.simulator.statistics.prompts.isEmpty)
        }
    }

    @Test func aPromptIsQueuedBehindAnError() async throws {
        try await withSimulator { server in
            let socket = try await server.socket()
            server.simulator.faults.arm(.errorAfter(500), times: 1)
            let answer = try await server.post("/prompt", ["prompt": Graphs.trivial(), "client_id": "client-a"])
            #expect(answer.status == 500 && answer.json == .null)
            #expect(try await socket.messagesOfRun().contains { $0.type == "execution_success" })
        }
    }

    /// Not by a pooled connection: HTTP clients send a request again when one of those ends.
    @Test(arguments: [(Fault.hangUp, 0), (.noAnswer, 1)]) func aConnectionEndsWithoutAnAnswer(_ fault: Fault, _ accepted: Int) async throws {
        try await withSimulator { server in
            server.simulator.faults.arm(fault, times: 1)
            let body = JSON.object(["prompt": Graphs.trivial()]).text
            let text = try await RawConnection.exchange(
                "POST /prompt HTTP/1.1\r\nHost: x\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)", port: server.port)
            #expect(text.isEmpty)
            #expect(server.simulator.statistics.promptsAccepted == accepted)
            _ = try await server.submit(Graphs.trivial())
        }
    }

    @Test func anAnswerIsLate() async throws {
        try await withSimulator { server in
            server.simulator.faults.arm(.delayAnswer(milliseconds: 300), only: "/queue", times: 1)
            let start = ContinuousClock.now
            let queue = try await server.get("/queue").json
            #expect(queue["queue_running"] == [])
            #expect(ContinuousClock.now - start >= .milliseconds(300))
        }
    }

    @Test func anAnswerIsAPage() async throws {
        try await withSimulator { server in
            server.simulator.faults.arm(.html(502), only: "/history", times: 1)
            let answer = try await server.get("/history/x")
            #expect(answer.status == 502 && answer.header("content-type") == "text/html; charset=utf-8" && answer.text.hasPrefix("<!DOCTYPE html>"))
            #expect(try await server.get("/history/x").json == [:])
        }
    }

    @Test func anAnswerIsNoJSON() async throws {
        try await withSimulator { server in
            server.simulator.faults.arm(.garbage, only: "/history", times: 1)
            let answer = try await server.get("/history")
            #expect(answer.status == 200 && answer.header("content-type") == "application/json; charset=utf-8")
            #expect(throws: (any Error).self) { try JSON(parsing: answer.body, lenient: true) }
        }
    }

    @Test func anAnswerHasNoEnd() async throws {
        try await withSimulator { server in
            server.simulator.faults.arm(.endless, only: "/object_info", times: 1)
            let response = try await HTTPClient.shared.execute(
                HTTPClientRequest(url: "http://127.0.0.1:\(server.port)/object_info"), timeout: .seconds(30))
            var count = 0
            for try await piece in response.body {
                count += piece.readableBytes
                if count > 8 << 20 { break }
            }
            #expect(count > 8 << 20)
            #expect(try await server.get("/prompt").status == 200)
        }
    }

    @Test func filesComeSlowlyAndWhole() async throws {
        let folder = try TemporaryFolder()
        let path = folder.path
        try await withSimulator {
            $0.directory = path
        } _: { server in
            let bytes = (0..<3_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
            try Folders.write(bytes, to: path + "/output/f.bin")
            server.simulator.faults.arm(.slow(bytesPerSecond: 10_000))
            let start = ContinuousClock.now
            #expect(try await server.get("/view?filename=f.bin").body == bytes)
            #expect(ContinuousClock.now - start >= .milliseconds(250))
            let range = try await server.get("/view?filename=f.bin", ["Range": "bytes=100-299"])
            #expect(range.status == 206 && range.body == Array(bytes[100..<300]))
            #expect(try await server.get("/view?filename=example.png&type=input&preview=jpeg").status == 200)
            #expect(server.simulator.statistics.faultsFired == [.slow: 3])
        }
    }

    @Test(arguments: [(0, 0), (50, 500), (99, 990)]) func filesBreakOff(_ percent: Int, _ count: Int) async throws {
        let folder = try TemporaryFolder()
        let path = folder.path
        try await withSimulator {
            $0.directory = path
        } _: { server in
            try Folders.write([UInt8](repeating: UInt8(ascii: "x"), count: 1000), to: path + "/output/f.txt")
            server.simulator.faults.arm(.breakOff(percent: percent), times: 1)
            let text = try await RawConnection.exchange("GET /view?filename=f.txt HTTP/1.1\r\nHost: x\r\n\r\n", port: server.port)
            let parts = text.split(separator: "\r\n\r\n", maxSplits: 1, omittingEmptySubsequences: false)
            #expect(parts[0].lowercased().contains("content-length: 1000"))
            #expect(parts.count == 2 && parts[1] == String(repeating: "x", count: count))
            #expect(try await server.get("/view?filename=f.txt").body.count == 1000)
        }
    }

    @Test(arguments: [Fault.error(502), .html(200), .hangUp, .garbage, .endless]) func socketsAreRefused(_ fault: Fault) async throws {
        try await withSimulator { server in
            server.simulator.faults.arm(fault, only: "/ws", times: 1)
            await #expect(throws: SocketRefused.self) { try await server.socket(flags: false) }
            let socket = try await server.socket()
            try await socket.messages { $0.type == "feature_flags" }
        }
    }

    // MARK: Connections

    @Test func aNewConnectionIsDropped() async throws {
        try await withSimulator { server in
            server.simulator.faults.arm(.refuse(milliseconds: 0), times: 1)
            let text = try? await RawConnection.exchange("GET /prompt HTTP/1.0\r\n\r\n", port: server.port)
            #expect(text == nil || text == "")
            let answer = try await RawConnection.exchange("GET /prompt HTTP/1.0\r\n\r\n", port: server.port)
            #expect(answer.contains("200 OK"))
        }
    }

    @Test func nobodyListensForAWhile() async throws {
        try await withSimulator { server in
            let socket = try await server.socket()
            try await server.simulator.perform(.refuse(.milliseconds(50)))
            try await server.waitUntilBack()
            _ = try await server.submit(Graphs.trivial())
            try await socket.messagesOfRun()  // an open connection is not concerned
            try await server.simulator.perform(.refuse(.seconds(3600)))
            #expect(await server.isGone())
        }
    }

    @Test func aConnectionMakesNobodyListenForAWhile() async throws {
        try await withSimulator { server in
            let socket = try await server.socket()
            server.simulator.faults.arm(.refuse(milliseconds: 100), times: 1)
            let text = try? await RawConnection.exchange("GET /prompt HTTP/1.0\r\n\r\n", port: server.port)
            #expect(text == nil || text == "")
            try await server.waitUntilBack()
            _ = try await server.submit(Graphs.trivial())
            try await socket.messagesOfRun()
        }
    }
}
