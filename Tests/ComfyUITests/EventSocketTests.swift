import ComfyUI
import NIOCore
import NIOHTTP1
import NIOWebSocket
import Testing

/// Frames and events of one connection.
@Suite(.timeLimit(.minutes(5))) struct EventSocketTests {
    @Test func introducesItselfAndTellsWhenItIsRegistered() async throws {
        try await FakeSocketServer.with { server in
            try await withEventSocket("http://user:pass@127.0.0.1:\(server.port)/base", clientID: "a b/ä") { _, events in
                let connection = try await server.nextConnection()
                #expect(connection.head.uri == "/base/ws?clientId=a%20b%2F%C3%A4")
                #expect(connection.head.headers["Host"] == ["127.0.0.1:\(server.port)"])
                #expect(connection.head.headers["Authorization"] == ["Basic dXNlcjpwYXNz"])
                for name in ["Origin", "Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol", "Sec-Fetch-Site"] {
                    #expect(!connection.head.headers.contains(name: name))
                }
                #expect(
                    try await server.nextText()
                        == #"{"type":"feature_flags","data":{"supports_preview_metadata":true,"supports_progress_text_metadata":true}}"#)
                guard case .connected("me") = try await events.next() else {
                    Issue.record("no connected first")
                    return
                }
                guard case .message(.status(0, "me"), _) = try await events.next() else {
                    Issue.record("no status second")
                    return
                }
            }
        }
    }

    @Test func keepsTheOrderOfTextAndBinary() async throws {
        try await FakeSocketServer.with { server in
            try await withEventSocket("ws://localhost:\(server.port)") { _, events in
                let connection = try await server.nextConnection()
                _ = try await events.nextConnected()
                _ = try await events.nextMessage()
                let count = 500
                for index in 0..<count {
                    try await connection.send(#"{"type": "progress", "data": {"value": \#(index), "max": 500, "prompt_id": "p", "node": "1"}}"#)
                    try await connection.send(.binary, ComfyBinaryMessageTests.frame(.integer(1), .integer(1), .text("\(index)")))
                }
                for index in 0..<count {
                    guard case .message(.progress("p"?, "1"?, Double(index), 500), let raw) = try await events.next(), raw.contains("\(index)"),
                        case .binary(.preview(let frame)) = try await events.next()
                    else {
                        Issue.record("out of order at \(index)")
                        return
                    }
                    #expect(frame.image == ByteBuffer(string: "\(index)"))
                }
            }
        }
    }

    @Test func survivesWhatItCannotRead() async throws {
        try await FakeSocketServer.with { server in
            try await withEventSocket("http://127.0.0.1:\(server.port)") { _, events in
                let connection = try await server.nextConnection()
                try await connection.send("no JSON")
                #expect(try await events.nextUndecodable().contains("no JSON"))
                try await connection.send(#"{"type": "progress", "data": {}}"#)
                #expect(try await events.nextUndecodable().contains("'progress'"))
                try await connection.send(.binary, ByteBuffer(bytes: [0, 0, 0, 4, 0, 0, 1, 0]))
                #expect(try await events.nextUndecodable().contains("256 bytes"))
                try await connection.send(.binary, ByteBuffer(bytes: [0, 0, 0, 9, 1, 2]))
                #expect(try await events.nextBinary().unknownLength == 2)
                try await connection.send(#"{"type": "my.pack", "data": 5}"#)
                #expect(try await events.nextMessage().message == .unknown(type: "my.pack", raw: #"{"type": "my.pack", "data": 5}"#))
            }
        }
    }

    @Test func answersPings() async throws {
        try await FakeSocketServer.with { server in
            try await withEventSocket("http://127.0.0.1:\(server.port)") { _, _ in
                let connection = try await server.nextConnection()
                try await connection.send(.ping, ByteBuffer(string: "are you there"))
                let pong = try await server.events.first { if case .pong(let payload) = $0 { payload } else { nil } }
                #expect(pong == ByteBuffer(string: "are you there"))
            }
        }
    }

    @Test func putsFragmentsTogether() async throws {
        try await FakeSocketServer.with { server in
            try await withEventSocket("http://127.0.0.1:\(server.port)") { _, events in
                let connection = try await server.nextConnection()
                try await connection.send(.text, ByteBuffer(string: #"{"type": "my.pack", "#), fin: false)
                try await connection.send(.continuation, ByteBuffer(string: #""data": "#), fin: false)
                try await connection.send(.ping, ByteBuffer(string: "between"))
                try await connection.send(.continuation, ByteBuffer(string: "5}"))
                _ = try await server.events.first { if case .pong = $0 { () } else { nil } }
                let raw = try await events.first { if case .message(.unknown("my.pack", _, _), let raw) = $0 { raw } else { nil } }
                #expect(raw == #"{"type": "my.pack", "data": 5}"#)

                try await connection.send(.binary, ByteBuffer(bytes: [0, 0, 0, 1]), fin: false)
                try await connection.send(.continuation, ByteBuffer(bytes: [0, 0, 0, 2, 42]))
                let preview = PreviewFrame(metadata: nil, contentType: "image/png", image: ByteBuffer(bytes: [42]))
                #expect(try await events.nextBinary() == .preview(preview))
            }
        }
    }

    /// A full-size result of SaveImageWebsocket: 96 MiB in one frame.
    @Test func takesLargeFrames() async throws {
        let size = 96 << 20
        var frame = ComfyBinaryMessageTests.frame(.integer(4), .integer(UInt32(ComfyBinaryMessageTests.metadata.utf8.count)))
        frame.writeString(ComfyBinaryMessageTests.metadata)
        frame.writeRepeatingByte(0xAB, count: size)
        let whole = frame
        try await FakeSocketServer.with { server in
            try await withEventSocket("http://127.0.0.1:\(server.port)") { _, events in
                let connection = try await server.nextConnection()
                try await connection.send(.binary, whole)
                guard case .preview(let preview) = try await events.nextBinary() else {
                    Issue.record("no preview")
                    return
                }
                #expect(preview.image == ByteBuffer(repeating: 0xAB, count: size))
                try await connection.send(#"{"type": "my.pack", "data": "after it"}"#)
                _ = try await events.first { if case .message(.unknown("my.pack", _, _), _) = $0 { () } else { nil } }
            }
        }
    }

    enum TooLarge: CaseIterable { case oneFrame, fragments }

    @Test(arguments: TooLarge.allCases)
    func refusesFramesBeyondTheMaximum(_ kind: TooLarge) async throws {
        try await FakeSocketServer.with { server in
            try await withEventSocket("http://127.0.0.1:\(server.port)", { $0.maximumFrameSize = 1 << 20 }) { _, events in
                let connection = try await server.nextConnection()
                _ = try await events.nextConnected()
                let half = ByteBuffer(repeating: 0, count: 600 << 10)
                switch kind {
                case .oneFrame:
                    // Not awaited: the client leaves before it has read all of it.
                    let frame = WebSocketFrame(fin: true, opcode: .binary, data: ByteBuffer(repeating: 0, count: 2 << 20))
                    connection.channel.writeAndFlush(frame, promise: nil)
                case .fragments:
                    try await connection.send(.binary, half, fin: false)
                    try await connection.send(.continuation, half, fin: true)
                }
                #expect(try await server.nextCloseFrame() == 1009)
                #expect(try await events.nextDisconnected().contains("larger than 1048576 bytes"))
                _ = try await events.nextConnected()
            }
        }
    }

    enum Violation: CaseIterable { case reservedBit, unknownOpcode, strayContinuation, longPing }

    @Test(arguments: Violation.allCases)
    func leavesServersThatBreakTheProtocol(_ violation: Violation) async throws {
        try await FakeSocketServer.with { server in
            try await withEventSocket("http://127.0.0.1:\(server.port)") { _, events in
                let connection = try await server.nextConnection()
                _ = try await events.nextConnected()
                switch violation {
                case .reservedBit: try await connection.send(.text, ByteBuffer(string: "{}"), rsv1: true)
                case .unknownOpcode: try await connection.send(WebSocketOpcode(encodedWebSocketOpcode: 3)!, ByteBuffer())
                case .strayContinuation: try await connection.send(.continuation, ByteBuffer())
                case .longPing: try await connection.send(.ping, ByteBuffer(repeating: 0, count: 200))
                }
                #expect(try await server.nextCloseFrame() == 1002)
                _ = try await events.nextDisconnected()
                _ = try await events.nextConnected()
            }
        }
    }

    /// Type 3 names the prompt only on servers that say so (protocol section 16).
    @Test func progressTextFollowsTheServersFlags() async throws {
        try await FakeSocketServer.with { server in
            try await withEventSocket("http://127.0.0.1:\(server.port)") { _, events in
                let connection = try await server.nextConnection()
                let old = ComfyBinaryMessageTests.frame(.integer(3), .integer(1), .text("7"), .text("words"))
                let new = ComfyBinaryMessageTests.frame(.integer(3), .integer(1), .text("p"), .integer(1), .text("7"), .text("words"))
                try await connection.send(.binary, old)
                #expect(try await events.nextBinary() == .progressText(nodeID: "7", text: "words", promptID: nil))
                try await connection.send(#"{"type": "feature_flags", "data": {"supports_progress_text_metadata": true}}"#)
                try await connection.send(.binary, new)
                #expect(try await events.nextBinary() == .progressText(nodeID: "7", text: "words", promptID: "p"))
            }
        }
    }
}
