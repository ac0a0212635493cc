import FoundationEssentials
import NIOHTTP1
import NIOWebSocket
import OrderedCollections
import OrderedJSON
import Testing

@testable import Simulator

/// The socket itself: greeting, frames, routing, and the traps of protocol sections 5 and 9.
@Suite(.timeLimit(.minutes(5)))
struct SocketTests {
    @Test(arguments: ["/ws?clientId=me", "/api/ws?clientId=me"])
    func greetsWithStatusAndSid(_ path: String) async throws {
        try await withSimulator { server in
            let socket = try await SocketClient.connect(port: server.port, path: path)
            #expect(
                await socket.next()?.json == ["type": "status", "data": ["status": ["exec_info": ["queue_remaining": 0]], "sid": "me"]])
            try await socket.close()
        }
    }

    /// As a client does that keeps its connections, and aiohttp's server allows.
    @Test func opensAtALaterRequestOfAConnection() async throws {
        try await withSimulator { server in
            let upgrade = """
                GET /ws?clientId=me HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n
                """
            let get = "GET /queue HTTP/1.1\r\nHost: localhost\r\n\r\n"
            let answers = try await RawConnection.exchange(get + get + upgrade, port: server.port, until: "\"sid\": \"me\"")
            let statuses = answers.matches(of: #/HTTP/1.1 (\d+)/#).map(\.1)
            #expect(statuses == ["200", "200", "101"])
        }
    }

    @Test func answersPings() async throws {
        try await withSimulator { server in
            let socket = try await server.socket(flags: false)
            try await socket.send(.ping, [1, 2, 3])
            let kinds = try await socket.messages { if case .pong = $0 { true } else { false } }.map(\.kind)
            #expect(kinds == ["status", "pong"])
        }
    }

    @Test func closesWith1000WhateverTheClientSays() async throws {
        try await withSimulator { server in
            let socket = try await server.socket(flags: false)
            try await socket.send(.connectionClose, [0x0F, 0xA0])  // 4000
            #expect(try await socket.messages { $0.kind.hasPrefix("close") }.last?.kind == "close 1000")
        }
    }

    @Test(arguments: [1, 3]) func closesWith1009BeyondFourMebibytes(_ fragments: Int) async throws {
        try await withSimulator { server in
            let socket = try await server.socket(flags: false)
            let part = [UInt8](repeating: 32, count: (4 << 20) / fragments + 1)
            for index in 0..<fragments {
                try? await socket.send(index == 0 ? .text : .continuation, part, fin: index == fragments - 1)
            }
            #expect(try await socket.messages { $0.kind.hasPrefix("close") }.last?.kind == "close 1009")
        }
    }

    @Test func takesFragmentedFlags() async throws {
        try await withSimulator { server in
            let socket = try await server.socket(flags: false)
            let bytes = Array(TestServer.featureFlags.utf8)
            try await socket.send(.text, Array(bytes[..<20]), fin: false)
            try await socket.send(.continuation, Array(bytes[20...]))
            let answer = try await socket.message("feature_flags")
            #expect(answer["max_upload_size"] == 104_857_600 && answer["supports_preview_metadata"] == true)
        }
    }

    @Test(arguments: [
        (ComfySimulator.Compatibility.v0_25_0, HTTPHeaders([("Sec-Fetch-Site", "cross-site")])),
        (.v0_33_0, HTTPHeaders([("Sec-Fetch-Site", "cross-site")])),
        (.v0_25_0, HTTPHeaders([("Origin", "http://evil.example")])), (.v0_3_64, HTTPHeaders([("Origin", "http://evil.example:1")])),
    ])
    func refusesStrangers(_ compatibility: ComfySimulator.Compatibility, _ headers: HTTPHeaders) async throws {
        try await withSimulator {
            $0.compatibility = compatibility
        } _: { server in
            await #expect(throws: SocketRefused.self) { try await SocketClient.connect(port: server.port, path: "/ws", headers: headers) }
            let plain = try await server.get("/ws", headers)
            #expect(plain.status == 403)
        }
    }

    @Test func isNoPlainRoute() async throws {
        try await withSimulator { server in
            let plain = try await server.get("/ws")
            #expect(plain.status == 400)
            await #expect(throws: SocketRefused.self) { try await SocketClient.connect(port: server.port, path: "/elsewhere") }
        }
    }

    @Test func stopsWithoutACloseFrame() async throws {
        let socket = try await withSimulator { server in
            let socket = try await server.socket()
            _ = try await server.submit(Graphs.slow())
            try await socket.messages { $0.data?["node"] == "2" }
            return socket
        }
        #expect(await socket.next() == nil)
    }

    // MARK: Whose events

    @Test func reconnectGetsABareExecutingAndThenEverything() async throws {
        try await withSimulator { server in
            let first = try await server.socket()
            let id = try await server.submit(Graphs.slow())
            try await first.messages { $0.data?["node"] == "2" }
            try await first.close()

            let second = try await server.socket()
            let greeting = try await second.messages { $0.type == "feature_flags" }
            #expect(greeting.map(\.kind) == ["status", "executing", "feature_flags"])
            #expect(greeting[0].data?["status"]?["exec_info"]?["queue_remaining"] == 1)
            #expect(greeting[1].data == ["node": "2"])
            try await server.post("/interrupt", ["prompt_id": .string(id)])
            #expect(try await second.messagesOfRun().map(\.kind) == ["execution_interrupted", "status", "executing"])
        }
    }

    /// Protocol section 9: the clean-up of the old socket removes the new one's entry.
    @Test func closingAnOlderSocketSilencesTheNewerOne() async throws {
        try await withSimulator { server in
            let old = try await server.socket(flags: false)
            _ = await old.next()
            let new = try await server.socket(flags: false)
            let witness = try await server.socket("witness", flags: false)
            _ = try await server.submit(Graphs.trivial(color: 1))
            #expect(try await new.messagesOfRun().last?.isEndOfRun == true)  // the newest has taken over
            try await old.close()

            _ = try await server.submit(Graphs.trivial(color: 2))
            _ = try await witness.messages {
                $0.type == "status" && $0.data?["sid"] == nil && $0.data?["status"]?["exec_info"]?["queue_remaining"] == 0
            }
            try await new.send(.ping, [])
            var heard: [String] = []
            while let message = await new.next(), message.kind != "pong" { heard.append(message.kind) }
            #expect(heard == [])  // alive, but forgotten
            let fresh = try await server.socket(flags: false)
            _ = try await server.submit(Graphs.trivial(color: 3))
            try await fresh.messagesOfRun()
        }
    }

    @Test func aSlowReaderHoldsUpEverybody() async throws {
        let folder = try TemporaryFolder()
        let path = folder.path
        try await withSimulator {
            $0.directory = path
        } _: { server in
            // About 6 MB that do not compress; three of them are more than the kernel keeps for a reader.
            let noise = Picture(width: 1400, height: 1400, color: 0).blended(withNoise: 1, seed: 1)
            try Folders.write(try noise.png(), to: path + "/input/noise.png")
            var graph: JSONObject = ["1": ["class_type": "LoadImage", "inputs": ["image": "noise.png"]]]
            for index in 2...4 { graph["\(index)"] = ["class_type": "SaveImageWebsocket", "inputs": ["images": ["1", 0]]] }

            let slow = try await server.socket("slow")
            try await slow.messages { $0.type == "feature_flags" }
            try await slow.setReading(false)
            let fast = try await server.socket("fast")
            try await fast.messages { $0.type == "feature_flags" }
            let large = try await server.submit(.object(graph), client: "slow")
            let small = try await server.submit(Graphs.trivial(), client: "fast")
            // Prompts and HTTP go on …
            for id in [large, small] { try await server.waitForHistory(id) }
            // … but the fast one's messages wait, which a new connection's first status does not.
            try await fast.send(.ping, [])
            let heard = try await fast.messages { $0.kind == "pong" }.map(\.kind)
            #expect(!heard.contains("execution_start"))
            let late = try await server.socket("late", flags: false)
            #expect(await late.next()?.type == "status")
            try await slow.drop()
            #expect(try await fast.messagesOfRun().contains { $0.type == "execution_success" })
        }
    }

    /// `"data": null` in the flags makes every node with previews fail for that client.
    @Test func nullFlagsBreakPreviews() async throws {
        try await withSimulator { server in
            let socket = try await server.socket(flags: false)
            try await socket.send(#"{"type": "feature_flags", "data": null}"#)
            try await socket.messages { $0.type == "feature_flags" }
            _ = try await server.submit(Graphs.textToImage())
            let error = try await socket.message("execution_error")
            #expect(error["exception_message"] == "'NoneType' object has no attribute 'get'\n")
            #expect(error["exception_type"] == "AttributeError" && error["node_id"] == "3")
        }
    }

    @Test func aListAsClientIDEndsTheServer() async throws {
        try await withSimulator { server in
            let socket = try await server.socket(flags: false)
            _ = await socket.next()
            _ = try await server.request(
                .POST, "/prompt", [:], JSON.object(["prompt": Graphs.trivial(), "client_id": ["a"]]).encoded())
            while let message = await socket.next() { #expect(message.type == "status") }
            #expect(await server.isGone())
        }
    }

    @Test func progressTextGoesToAllInTheOldLayout() async throws {
        try await withSimulator { server in
            let own = try await server.socket("own"), other = try await server.socket("other")
            func graph(_ text: String, _ toAll: Bool) -> JSON {
                [
                    "1": ["class_type": "EmptyImage", "inputs": ["width": 8, "height": 8, "batch_size": 1, "color": 0]],
                    "t2": [
                        "class_type": "SimProgressText", "inputs": ["image": ["1", 0], "text": .string(text), "broadcast": JSON(toAll)],
                    ],
                    "3": ["class_type": "PreviewImage", "inputs": ["images": ["t2", 0]]],
                ]
            }
            _ = try await server.submit(graph("only you", false), client: "own")
            _ = try await server.submit(graph("all – of you", true), client: "own")
            let frame = { (text: String) in [0, 0, 0, 3, 0, 0, 0, 2] + Array("t2".utf8) + Array(text.utf8) }
            #expect(try await own.messagesOfRun().compactMap(\.bytes) == [frame("only you")])
            #expect(try await own.messagesOfRun().compactMap(\.bytes) == [frame("all – of you")])
            #expect(try await other.messages { $0.bytes != nil }.last?.bytes == frame("all – of you"))
        }
    }

    @Test func logsGoToSubscribers() async throws {
        try await withSimulator { server in
            let socket = try await server.socket(flags: false)
            _ = await socket.next()
            let subscribe = JSON.object(["clientId": "client-a", "enabled": true]).encoded()
            #expect(try await server.request(.PATCH, "/internal/logs/subscribe", [:], subscribe).status == 200)
            _ = try await server.submit(Graphs.trivial())
            let first = try await socket.message("logs")
            #expect(first["entries"]?[0]?["m"] == "got prompt\n")
            let raw = try await server.get("/internal/logs/raw").json
            #expect(raw["entries"]?[0]?["m"] == "got prompt\n")
            #expect(try await server.get("/api/internal/logs/raw").status == 404)
        }
    }
}
