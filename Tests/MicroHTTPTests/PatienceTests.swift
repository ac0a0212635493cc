import Glibc
@testable import MicroHTTP
import Testing

/// Those who keep the server waiting: pure tables first, then real connections, with limits that are short enough to be waited for and long enough
/// not to strike anybody else.
@Suite(.timeLimit(.minutes(5))) struct PatienceTests {
    private static let limits = Patience.Limits(idle: .seconds(60), head: .seconds(15), body: .seconds(60), bodyRate: 500, stall: .seconds(300))

    struct Look: Sendable {
        var at: Int
        var subject: Patience.Subject
        var count: UInt64
        var isShort = false
        var verdict = Patience.Verdict.wait
    }

    private static let looks: [(String, [Look])] = [
        ("no byte ever", [Look(at: 59, subject: .request, count: 0), Look(at: 60, subject: .request, count: 0, verdict: .idle)]),
        (
            "half a head",
            [
                Look(at: 1, subject: .request, count: 5), Look(at: 15, subject: .request, count: 5), Look(at: 16, subject: .request, count: 5, verdict: .late),
            ]
        ),
        (
            "a byte a second of a head",
            [
                Look(at: 2, subject: .request, count: 2), Look(at: 9, subject: .request, count: 9), Look(at: 17, subject: .request, count: 17, verdict: .late),
            ]
        ),
        (
            "a byte a minute of a body",
            [
                Look(at: 1, subject: .body, count: 1), Look(at: 60, subject: .body, count: 2), Look(at: 61, subject: .body, count: 2, verdict: .late),
            ]
        ),
        (
            "a body at the least rate, in fits",
            [
                Look(at: 0, subject: .body, count: 0), Look(at: 59, subject: .body, count: 0), Look(at: 60, subject: .body, count: 30_000),
                Look(at: 119, subject: .body, count: 30_001), Look(at: 120, subject: .body, count: 60_000), Look(at: 180, subject: .body, count: 89_999, verdict: .late),
            ]
        ),
        (
            "a body that nobody asked for meanwhile",
            [
                Look(at: 0, subject: .body, count: 9), Look(at: 50, subject: .nothing, count: 9), Look(at: 500, subject: .nothing, count: 9),
                Look(at: 501, subject: .body, count: 9), Look(at: 560, subject: .body, count: 9), Look(at: 561, subject: .body, count: 9, verdict: .late),
            ]
        ),
        ("a job of hours", [Look(at: 1, subject: .nothing, count: 0), Look(at: 100_000, subject: .nothing, count: 0)]),
        ("a slow reader", (0..<100).map { Look(at: $0 * 299, subject: .answer, count: UInt64($0)) }),
        (
            "a paused player",
            [
                Look(at: 0, subject: .answer, count: 7), Look(at: 299, subject: .answer, count: 7), Look(at: 300, subject: .answer, count: 7, verdict: .stalled),
            ]
        ),
        (
            "a paused player while connections are short",
            [
                Look(at: 0, subject: .answer, count: 7, isShort: true), Look(at: 59, subject: .answer, count: 7, isShort: true),
                Look(at: 60, subject: .answer, count: 7, isShort: true, verdict: .stalled),
            ]
        ),
        ("a slow reader while connections are short", (0..<100).map { Look(at: $0 * 59, subject: .answer, count: UInt64($0), isShort: true) }),
        ("idle while connections are short", [Look(at: 59, subject: .request, count: 0, isShort: true)]),
    ]

    @Test("Who may wait how long", arguments: looks)
    func table(_ what: String, _ looks: [Look]) {
        let begin = ContinuousClock.now
        var patience = Patience(for: .request, at: 0, since: begin)
        for look in looks {
            let verdict = patience.look(for: look.subject, at: look.count, now: begin + .seconds(look.at), Self.limits, isShort: look.isShort)
            #expect(verdict == look.verdict, "\(what), \(look.at) s")
        }
    }

    @Test func forever() {
        let limits = Patience.Limits(idle: .zero, head: .zero, body: .zero, bodyRate: 500, stall: .zero)
        for subject in [Patience.Subject.request, .body, .answer, .nothing] {
            var patience = Patience(for: subject, at: 0, since: .now)
            #expect(patience.look(for: subject, at: 0, now: .now + .seconds(1_000_000), limits, isShort: true) == .wait)
        }
    }

    // MARK: Real connections

    private static let server = HTTPServer.Configuration(
        threads: 2, idleTimeout: .seconds(600), headTimeout: .milliseconds(500), bodyTimeout: .seconds(600), stallTimeout: .seconds(600))

    @Test(
        "A head that does not end is answered with 408, also the next one of a connection and with a byte now and then",
        arguments: [
            "G", "GET / HTTP/1.1\r\nHost: a\r\nX: ", "\r\n",
        ])
    func head(_ part: String) async throws {
        try await withServer(Self.server, respond: { .text($0.path) }) { server in
            try await server.withClient { first in
                try first.send(part)
                let next = try Client(port: server.port)
                #expect(try next.get("/before").text == "/before")
                try next.send(part)
                for client in [first, next] {
                    let reply = try client.reply()
                    #expect(reply.status == 408)
                    #expect(reply.text == "too slow")
                    #expect(reply.headers["Connection"] == "close")
                    #expect(try client.rest() == [])
                }
                // Bytes keep coming until it is refused.
                let dripping = try Client(port: server.port)
                try dripping.send("GET / HTTP/1.1\r\nHost: a\r\nX: ")
                while (try? dripping.send("x")) != nil, !dripping.isReadable(within: 50) {}
                #expect(try dripping.reply().status == 408)
            }
        }
    }

    @Test("A connection without a request is not in a head, however long it is idle")
    func noHead() async throws {
        try await withServer(Self.server, respond: { .text($0.path) }) { server in
            try await server.withClient { client in
                let idle = try Client(port: server.port)
                #expect(try idle.get("/1").text == "/1")
                // Another one is refused meanwhile, so time has passed.
                try client.send("G")
                #expect(try client.reply().status == 408)
                #expect(try idle.get("/2").text == "/2")
                #expect(server.server.openConnections >= 1)
            }
        }
    }

    @Test("A body that does not come is answered with 408, whoever collects it", arguments: ["/", "/upload"], ["", "Expect: 100-continue\r\n"])
    func body(_ path: String, _ expectation: String) async throws {
        let ended = Signal<String>()
        let respond: @Sendable (Request) async -> Response = { request in
            if let form = request.form {
                do { while try await form.next() != nil {} } catch { ended.send("\(error)") }
            }
            return .text("handled")
        }
        let configuration = HTTPServer.Configuration(threads: 2, idleTimeout: .seconds(600), headTimeout: .seconds(600), bodyTimeout: .milliseconds(500))
        try await withServer(configuration, uploadLimit: Upload.limit, respond: respond) { server in
            try await server.withClient { client in
                try client.send("POST \(path) HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\(Upload.type)\(expectation)\r\n--XX\r\n")
                let reply = try client.reply()
                #expect(reply.status == 408)
                #expect(reply.text == "too slow")
                #expect(try client.rest() == [])
            }
            if path != "/" { #expect(try await ended.next() == "disconnected") }
        }
    }

    @Test("A reader that takes nothing is cut off, one that is slow is not, nor one that waits", arguments: [false, true])
    func reader(isLive: Bool) async throws {
        let stalled = ManualSource([.bytes(pattern(30_000_000))])
        let waiting = ManualSource([.bytes([1])])
        let respond: @Sendable (Request) async -> Response = { request in
            request.path == "/waiting"
                ? Response(body: .stream(waiting, length: nil)) : Response(body: .stream(stalled, length: isLive ? nil : 30_000_000))
        }
        let configuration = HTTPServer.Configuration(
            threads: 2, idleTimeout: .seconds(600), headTimeout: .seconds(600), bodyTimeout: .seconds(600), stallTimeout: .milliseconds(500))
        try await withServer(configuration, respond: respond) { server in
            let waiter = try Client(port: server.port)
            try waiter.send("GET /waiting HTTP/1.1\r\nHost: a\r\n\r\n")
            let reader = try Client(port: server.port, receiveBuffer: 4096)
            try reader.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(try await stalled.closedSignal.next() == .disconnected)
            waiting.push(.bytes([2]), .finished)
            let handed = Handed(waiter)
            let chunks = try await offPool { try (handed.client.head().status, handed.client.chunk(), handed.client.chunk()) }
            #expect(chunks.0 == 200 && chunks.1 == [1] && chunks.2 == [2])
            reader.close()
        }
    }

    @Test("While connections are short, a reader that takes nothing is cut off after the idle timeout")
    func shortage() async throws {
        let source = ManualSource([.bytes(pattern(30_000_000))])
        let configuration = HTTPServer.Configuration(threads: 1, connectionLimit: 1, idleTimeout: .milliseconds(500), stallTimeout: .seconds(600))
        try await withServer(configuration, respond: { _ in Response(body: .stream(source, length: nil)) }) { server in
            let reader = try Client(port: server.port, receiveBuffer: 4096)
            try reader.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(try await source.closedSignal.next() == .disconnected)
            reader.close()
        }
    }

    // MARK: Half-closed connections

    @Test(
        "Who closes only the sending side of the last request waits for the answer",
        arguments: [
            "GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nConnection: TE , Close\r\n\r\n",
            "POST / HTTP/1.0\r\nContent-Length: 4\r\n\r\nbody", "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
        ], [false, true])
    func halfClosed(_ message: String, isEarly: Bool) async throws {
        for isStream in [false, true] {
            let started = Signal<Void>()
            let gate = Gate()
            let source = ManualSource([.bytes([1])])
            let respond: @Sendable (Request) async -> Response = { request in
                if request.path == "/other" { return .text("other") }
                started.send()
                await gate.wait()
                return Task.isCancelled ? .text("cancelled", status: 500) : isStream ? Response(body: .stream(source, length: nil)) : .text("answered")
            }
            try await withServer(respond: respond) { server in
                let client = try Client(port: server.port)
                try client.send(message)
                if isEarly { client.finishSending() }
                try await started.next()
                if !isEarly { client.finishSending() }
                // The end of another connection, which came later, has been heard of.
                try await server.withClient { other in
                    let answer = try other.get("/other")
                    #expect(answer.text == "other")
                }
                try await server.until("the other connection has gone") { server.server.openConnections <= 1 }
                gate.open()
                if isStream {
                    try await source.attachedSignal.next()
                    source.push(.bytes([2]), .finished)
                }
                let handed = Handed(client)
                let reply = try await offPool { try handed.client.reply() }
                #expect(reply.status == 200)
                #expect(isStream ? reply.body == [1, 2] : reply.text == "answered")
                #expect(reply.isWhole)
                #expect(try await offPool { handed.client.isClosedByServer() })
            }
        }
    }

    @Test("A reset of a half-closed connection still cancels, and half-closing one that is kept")
    func resetAfterHalfClose() async throws {
        let started = Signal<Void>()
        let cancelled = Signal<Void>()
        let respond: @Sendable (Request) async -> Response = { _ in
            await withTaskCancellationHandler {
                started.send()
                await Gate().wait()
            } onCancel: {
                cancelled.send()
            }
            return .text("late")
        }
        try await withServer(respond: respond) { server in
            for head in ["GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"] {
                let client = try Client(port: server.port)
                try client.send(head)
                try await started.next()
                client.finishSending()
                client.reset()
                try await cancelled.next()
            }
            for head in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"] {
                let client = try Client(port: server.port)
                try client.send(head)
                try await started.next()
                client.finishSending()
                try await cancelled.next()
                client.close()
            }
        }
    }
}

extension Client {
    /// Waits so many milliseconds at most.
    func isReadable(within milliseconds: Int32) -> Bool {
        var event = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        return poll(&event, 1, milliseconds) > 0
    }
}
