import ComfyUI
import Crypto
import Foundation
import NIOCore
import NIOHTTP1
import NIOSSL
import NIOWebSocket
import Testing

/// What lies below the frames: TLS, and how bytes fall into packets.
@Suite(.timeLimit(.minutes(5))) struct EventSocketTransportTests {
    @Test(arguments: ["127.0.0.1", "localhost"])
    func speaksTLS(_ host: String) async throws {
        let certificate = try TestCertificate()
        var options = FakeSocketServer.Options()
        options.tls = try certificate.serverContext()
        let tls = certificate.clientConfiguration()
        try await FakeSocketServer.with(options) { server in
            try await withEventSocket("https://\(host):\(server.port)", { $0.tls = tls }) { _, events in
                let connection = try await server.nextConnection()
                #expect(try await events.nextConnected() == "me")
                try await connection.send(.binary, ComfyBinaryMessageTests.frame(.integer(1), .integer(1), .text("pixels")))
                _ = try await events.nextBinary()
                try await connection.drop()
                _ = try await events.nextDisconnected()
                _ = try await events.nextConnected()
            }
            #expect(try await server.nextCloseFrame() == 1000)
        }
    }

    @Test func doesNotTrustJustAnyCertificate() async throws {
        var options = FakeSocketServer.Options()
        options.tls = try TestCertificate().serverContext()
        try await FakeSocketServer.with(options) { server in
            try await withEventSocket("wss://127.0.0.1:\(server.port)") { _, events in
                let reason = try await events.nextDisconnected()
                #expect(reason.contains("its TLS certificate is not trusted"))
            }
        }
    }

    @Test func aPlainServerIsNoTLSServer() async throws {
        try await FakeSocketServer.with { server in
            try await withEventSocket("wss://127.0.0.1:\(server.port)") { _, events in
                guard case .disconnected = try await events.next() else {
                    Issue.record("something else came")
                    return
                }
            }
        }
    }

    /// The first messages in one packet with the answer to the handshake.
    @Test func readsWhatComesWithTheHandshake() async throws {
        try await FakeHTTPServer.with(respond: { request in
            let key = request.headers.first(name: "Sec-WebSocket-Key") ?? ""
            let accept = Data(Insecure.SHA1.hash(data: Data((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").utf8))).base64EncodedString()
            let status = #"{"type": "status", "data": {"status": {"exec_info": {"queue_remaining": 0}}, "sid": "s"}}"#
            let executing = #"{"type": "executing", "data": {"node": "5"}}"#
            let frames = [status, executing].map { "\u{81}" + String(UnicodeScalar(UInt8($0.utf8.count))) + $0 }.joined()
            let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: \(accept)\r\n\r\n"
            // Latin-1, so that the first byte of a frame is one byte.
            return .stallBytes((head + frames).unicodeScalars.map { UInt8($0.value) })
        }) { server in
            try await withEventSocket(server.url, { $0.closeTimeout = .milliseconds(100) }) { _, events in
                guard case .connected("s") = try await events.next(), case .message(.status, _) = try await events.next(),
                    case .message(.executingBare("5"), _) = try await events.next()
                else {
                    Issue.record("something else came")
                    return
                }
            }
        }
    }

    @Test func framesOfEverySize() async throws {
        try await FakeSocketServer.with { server in
            try await withEventSocket("http://127.0.0.1:\(server.port)") { _, events in
                let connection = try await server.nextConnection()
                // Sizes around the three forms of a frame's length.
                for size in [0, 1, 125, 126, 127, 65_535, 65_536, 65_537, 1 << 20] {
                    var frame = ByteBuffer(integer: UInt32(9))
                    frame.writeRepeatingByte(1, count: size)
                    try await connection.send(.binary, frame)
                    #expect(try await events.nextBinary().unknownLength == size)
                }
            }
        }
    }
}
