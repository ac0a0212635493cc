import ComfyUI
import NIOCore
import NIOHTTP1
import NIOWebSocket
import Testing

/// How connections begin, end and come again.
@Suite(.timeLimit(.minutes(5))) struct EventSocketLifeTests {
    @Test func comesBackAfterADropWithTheSameID() async throws {
        try await FakeSocketServer.with { server in
            try await withEventSocket("http://127.0.0.1:\(server.port)") { socket, events in
                for _ in 1...3 {
                    let connection = try await server.nextConnection()
                    #expect(connection.head.uri == "/ws?clientId=me")
                    #expect(try await server.nextText().contains("feature_flags"))
                    _ = try await events.nextConnected()
                    try await connection.drop()
                    #expect(try await events.nextDisconnected() == "the connection broke without a close frame")
                    #expect(socket.lastUnnoticedEnd == nil)
                }
            }
            #expect(server.mostConnectionsAtOnce == 1)
        }
    }

    @Test func answersACloseFrame() async throws {
        try await FakeSocketServer.with { server in
            try await withEventSocket("http://127.0.0.1:\(server.port)") { socket, events in
                let connection = try await server.nextConnection()
                _ = try await events.nextConnected()
                try await connection.send(.connectionClose, ByteBuffer(bytes: [0x03, 0xE9] + Array("bye".utf8)))
                #expect(try await server.nextCloseFrame() == 1001)
                #expect(try await events.nextDisconnected() == "the server closed with code 1001: bye")
                #expect(socket.lastUnnoticedEnd == nil)
                _ = try await events.nextConnected()
            }
        }
    }

    /// The trap of protocol section 9: the old TCP connection must be gone before the new one is opened.
    @Test(arguments: [true, false])
    func reconnectNowClosesTheOldConnectionFirst(_ answersClose: Bool) async throws {
        var options = FakeSocketServer.Options()
        options.answersClose = answersClose
        try await FakeSocketServer.with(options) { server in
            try await withEventSocket(
                "http://127.0.0.1:\(server.port)",
                { configuration in
                    configuration.closeTimeout = answersClose ? .seconds(50) : .milliseconds(100)
                    configuration.backoff = Backoff(minimum: .seconds(600), maximum: .seconds(600))  // no back-off is waited for
                }
            ) { socket, events in
                _ = try await events.nextConnected()
                socket.reconnectNow()
                let order = try await [(), (), (), (), ()].asyncMap { _ in
                    try await server.events.first { event in
                        switch event {
                        case .opened(let connection): "opened \(connection.number)"
                        case .closeFrame(let code): "close frame \(code ?? 0)"
                        case .closed(let number): "closed \(number)"
                        case .text: "flags"
                        case .ping, .pong: nil
                        }
                    }
                }
                #expect(order == ["opened 1", "flags", "close frame 1000", "closed 1", "opened 2"])
                #expect(try await events.nextDisconnected() == "a new connection was asked for")
                #expect((socket.lastUnnoticedEnd == nil) == answersClose)
                _ = try await events.nextConnected()
            }
            #expect(server.mostConnectionsAtOnce == 1)
        }
    }

    /// Doubling pauses would add up to more than a minute.
    @Test func aConnectionThatWasOfUseIsMadeAgainSoon() async throws {
        try await FakeSocketServer.with { server in
            try await withEventSocket("http://127.0.0.1:\(server.port)", { $0.backoff = Backoff(minimum: .milliseconds(1), maximum: .seconds(600)) }) { _, events in
                for _ in 0..<18 {
                    let connection = try await server.nextConnection()
                    _ = try await events.nextConnected()
                    try await connection.send(#"{"type": "execution_start", "data": {"prompt_id": "p"}}"#)
                    while true { if case .message(.executionStart, _) = try await events.next() { break } }
                    try await connection.drop()
                    _ = try await events.nextDisconnected()
                }
            }
        }
    }

    @Test func reconnectNowCutsABackoffShort() async throws {
        try await FakeSocketServer.with { server in
            try await withEventSocket(
                "http://127.0.0.1:\(server.port)",
                { configuration in
                    configuration.backoff = Backoff(minimum: .seconds(600), maximum: .seconds(600))
                }
            ) { socket, events in
                let connection = try await server.nextConnection()
                _ = try await events.nextConnected()
                try await connection.drop()
                _ = try await events.nextDisconnected()
                socket.reconnectNow()
                _ = try await events.nextConnected()
            }
        }
    }

    @Test func whoWaitsIsConnectedWithoutABackoff() async throws {
        try await FakeSocketServer.with { server in
            try await withEventSocket(
                "http://127.0.0.1:\(server.port)",
                { configuration in
                    // The step after the first is as long as a test may take.
                    configuration.backoff = Backoff(minimum: .milliseconds(1), maximum: .seconds(600))
                    configuration.stableAfter = .seconds(600)
                }
            ) { socket, events in
                // From which moment on it pauses cannot be seen from here.
                let asking = Task { while !Task.isCancelled { socket.connectNow(); try await Task.sleep(for: .milliseconds(1)) } }
                defer { asking.cancel() }
                // Doubling pauses would add up to more than a minute.
                for _ in 0..<18 {
                    let connection = try await server.nextConnection()
                    _ = try await events.nextConnected()
                    try await connection.drop()
                    _ = try await events.nextDisconnected()
                }
            }
            #expect(server.mostConnectionsAtOnce == 1)
        }
    }

    @Test func whileSomebodyWaitsPausesAreShort() async throws {
        try await FakeSocketServer.with { server in
            try await withEventSocket(
                "http://127.0.0.1:\(server.port)",
                { configuration in
                    configuration.backoff = Backoff(minimum: .milliseconds(1), maximum: .seconds(600))
                    configuration.stableAfter = .seconds(600)
                    configuration.longestAwaitedPause = .milliseconds(2)
                    configuration.isAwaited = { true }
                }
            ) { _, events in
                for _ in 0..<25 {
                    let connection = try await server.nextConnection()
                    _ = try await events.nextConnected()
                    try await connection.drop()
                    _ = try await events.nextDisconnected()
                }
            }
        }
    }

    @Test func pingsKeepAConnectionThatAnswers() async throws {
        try await FakeSocketServer.with { server in
            try await withEventSocket("http://127.0.0.1:\(server.port)", { $0.pingInterval = .milliseconds(20) }) { _, events in
                let connection = try await server.nextConnection()
                _ = try await events.nextConnected()
                for _ in 0..<5 { try await server.nextPing() }
                try await connection.send(#"{"type": "my.pack", "data": 1}"#)
                guard case .message(.status, _) = try await events.next(), case .message(.unknown("my.pack", _, _), _) = try await events.next() else {
                    Issue.record("the connection broke")
                    return
                }
            }
        }
    }

    @Test func silenceAfterAPingIsTheEnd() async throws {
        var options = FakeSocketServer.Options()
        options.answersPings = false
        try await FakeSocketServer.with(options) { server in
            try await withEventSocket(
                "http://127.0.0.1:\(server.port)",
                { configuration in
                    configuration.pingInterval = .milliseconds(50)
                    configuration.pongTimeout = .milliseconds(100)
                }
            ) { socket, events in
                _ = try await events.nextConnected()
                #expect(socket.lastUnnoticedEnd == nil)
                #expect(try await events.nextDisconnected().contains("did not answer a ping"))
                // For all that the server knows it may still be there.
                #expect(socket.lastUnnoticedEnd != nil)
                _ = try await events.nextConnected()
            }
            #expect(server.mostConnectionsAtOnce == 1)
        }
    }

    /// While a large message comes in, the pong waits behind it: any byte is a sign of life.
    @Test func bytesAreASignOfLife() async throws {
        var options = FakeSocketServer.Options()
        options.answersPings = false
        try await FakeSocketServer.with(options) { server in
            try await withEventSocket(
                "http://127.0.0.1:\(server.port)",
                { configuration in
                    configuration.pingInterval = .milliseconds(30)
                    configuration.pongTimeout = .seconds(30)
                }
            ) { _, events in
                let connection = try await server.nextConnection()
                _ = try await events.nextConnected()
                for _ in 0..<5 {
                    // A new ping is sent only when the one before was answered: by these messages.
                    try await server.nextPing()
                    try await connection.send(#"{"type": "my.pack", "data": 1}"#)
                }
            }
        }
    }

    /// Each part of a message tells that it is under way, and answers the ping before, whose pong may wait behind it.
    @Test func aMessageUnderWayIsASignOfLife() async throws {
        var options = FakeSocketServer.Options()
        options.answersPings = false
        let parts = Inbox<Void>()
        try await FakeSocketServer.with(options) { server in
            try await withEventSocket(
                "http://127.0.0.1:\(server.port)",
                { configuration in
                    configuration.pingInterval = .milliseconds(30)
                    configuration.pongTimeout = .seconds(30)
                }, parts: parts
            ) { _, events in
                let connection = try await server.nextConnection()
                _ = try await events.nextConnected()
                _ = try await events.nextMessage()
                let part = [UInt8](repeating: 7, count: 1000)
                try await connection.send(.binary, ByteBuffer(bytes: [0, 0, 0, 1, 0, 0, 0, 2]), fin: false)
                for number in 1...5 {
                    try await parts.next()
                    try await server.nextPing()
                    try await connection.send(.continuation, ByteBuffer(bytes: part), fin: number == 5)
                }
                guard case .binary(.preview(let frame)) = try await events.next() else {
                    Issue.record("something came before the message")
                    return
                }
                #expect(frame.image == ByteBuffer(repeating: 7, count: 5000))
            }
        }
    }

    @Test func serversWithoutAStatusAreNoComfyUI() async throws {
        var options = FakeSocketServer.Options()
        options.greeting = [#"{"type": "hello"}"#]
        try await FakeSocketServer.with(options) { server in
            try await withEventSocket("http://127.0.0.1:\(server.port)", { $0.connectTimeout = .seconds(2) }) { _, events in
                // On a busy machine an attempt may run out of time before.
                try await events.first { if case .disconnected(let reason) = $0, reason.contains("no status") { () } else { nil } }
            }
        }
    }

    @Test(arguments: [
        (FakeHTTPServer.Reply.answer(403, "no entry", contentType: "text/plain"), "refuses the bridge with status 403 (no entry)"),
        (.answer(301, "", headers: [("Location", "https://elsewhere/")]), "301 Moved Permanently to https://elsewhere/"),
        (.endless(status: 200), "200 OK: ["),
        (.raw("SSH-2.0-OpenSSH_9.2\r\n"), "does not speak HTTP"),
        (.raw(""), "closed during the handshake"),
        (.raw("HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\ncut"), "refuses the bridge with status 403 (cut)"),
        (
            .raw("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n"),
            "Sec-WebSocket-Accept"
        ),
        (.raw("HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n"), "protocol other than WebSocket"),
    ])
    func refusalsSayWhy(_ reply: FakeHTTPServer.Reply, expected: String) async throws {
        try await FakeHTTPServer.with(respond: { _ in reply }) { server in
            try await withEventSocket(server.url) { _, events in
                for _ in 1...2 {
                    guard case .disconnected(let reason) = try await events.next() else {
                        Issue.record("something else came")
                        return
                    }
                    #expect(reason.contains(expected), "\(reason)")
                }
            }
        }
    }

    @Test(arguments: ["", "HTTP/1.1 ", "HTTP/1.1 101 Switching Protocols\r\n"])
    func handshakesMustEnd(_ start: String) async throws {
        try await FakeHTTPServer.with(respond: { _ in .stall(start) }) { server in
            try await withEventSocket(server.url, { $0.connectTimeout = .seconds(1) }) { _, events in
                // On a busy machine an attempt may run out of time while it still connects; the next one is as good.
                var reason = try await events.nextDisconnected()
                while reason.contains("no connection within the time limit") { reason = try await events.nextDisconnected() }
                #expect(reason.contains("did not finish the handshake in time"))
            }
        }
    }

    @Test func nobodyListening() async throws {
        let port = try await unusedPort()
        try await withEventSocket("http://127.0.0.1:\(port)") { _, events in
            for _ in 1...3 {
                let reason = try await events.nextDisconnected()
                #expect(reason == "connection refused")
            }
        }
    }

    // MARK: Cancellation

    @Test func cancellationSaysGoodbyeAndWaits() async throws {
        try await FakeSocketServer.with { server in
            try await withEventSocket("http://127.0.0.1:\(server.port)") { _, events in
                _ = try await events.nextConnected()
            }
            // run() has returned.
            #expect(try await server.nextCloseFrame() == 1000)
            #expect(try await server.nextClosed() == 1)
        }
    }

    @Test func cancellationDoesNotWaitForEver() async throws {
        var options = FakeSocketServer.Options()
        options.answersClose = false
        try await FakeSocketServer.with(options) { server in
            try await withEventSocket("http://127.0.0.1:\(server.port)", { $0.closeTimeout = .milliseconds(200) }) { _, events in
                _ = try await events.nextConnected()
            }
            #expect(try await server.nextClosed() == 1)
        }
    }

    @Test func cancellationDuringTheHandshake() async throws {
        try await FakeHTTPServer.with(respond: { _ in .stall("") }) { server in
            try await withEventSocket(server.url, { $0.connectTimeout = .seconds(600) }) { _, _ in
                _ = try await server.nextRequest()
            }
            try await server.nextClose()
        }
    }

    @Test func cancellationDuringABackoff() async throws {
        let port = try await unusedPort()
        try await withEventSocket("http://127.0.0.1:\(port)", { $0.backoff = Backoff(minimum: .seconds(600), maximum: .seconds(600)) }) { _, events in
            _ = try await events.nextDisconnected()
        }
    }

    @Test func cancellationBeforeTheStart() async throws {
        let port = try await unusedPort()
        try await withEventSocket("http://127.0.0.1:\(port)") { _, _ in }
    }
}

extension Array {
    fileprivate func asyncMap<Result>(_ transform: (Element) async throws -> Result) async rethrows -> [Result] {
        var results: [Result] = []
        for element in self { results.append(try await transform(element)) }
        return results
    }
}
