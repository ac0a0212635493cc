import Foundation
@testable import MicroHTTP
import Synchronization
import Testing

/// What the head alone decides, and the memory that bodies get.
@Suite(.timeLimit(.minutes(5)), .serialized) struct AdmissionTests {
    private static let megabyte = 1024 * 1024

    /// Refuses requests with their status as the path; a path in words is admitted.
    private static func admit(_ body: RequestBody, _ respond: @escaping @Sendable (Request) async -> Response) -> @Sendable (Request) -> Admission {
        { request in
            if let status = Int(request.path.dropFirst()) { return .answered(.text("no", status: status)) }
            return .admitted(body: body, respond: respond)
        }
    }

    private static let echo: @Sendable (Request) async -> Response = { .text("\($0.body.count)") }

    @Test(
        "Answered by the head, before any of the body is sent", arguments: [401, 403, 404, 405, 415, 503],
        [
            "Content-Length: 5", "Content-Length: 63000000", "Transfer-Encoding: chunked", "Expect: 100-continue\r\nContent-Length: 5",
        ])
    func atOnce(status: Int, framing: String) async throws {
        try await withServer(admit: Self.admit(.collected(limit: 1 << 30), Self.echo), respond: Self.echo) { server in
            try await server.withClient { client in
                try client.send("POST /\(status) HTTP/1.1\r\nHost: a\r\n\(framing)\r\n\r\n")
                let reply = try client.head()  // not 100
                #expect(reply.status == status)
                #expect(reply.headers["Connection"] == "close")
                #expect(String(decoding: try client.rest(), as: UTF8.self) == "no")
            }
            #expect(server.server.mostBodyMemoryInUse == 0)
        }
    }

    @Test func withoutABodyTheConnectionGoesOn() async throws {
        try await withServer(admit: Self.admit(.collected(limit: 10), Self.echo), respond: Self.echo) { server in
            try await server.withClient { client in
                for _ in 0..<3 {
                    let refused = try client.get("/401")
                    #expect(refused.status == 401 && refused.headers["Connection"] == nil)
                    #expect(try client.post("/fine", [1, 2]).text == "2")
                }
                try client.send("GET /404 HTTP/1.1\r\nHost: a\r\n\r\nGET /fine HTTP/1.1\r\nHost: a\r\n\r\n")
                #expect(try client.reply().status == 404)
                #expect(try client.reply().text == "0")
            }
        }
    }

    @Test("Thirty clients in the middle of 63 MB read their 401, and nothing of it was kept")
    func manyUploads() async throws {
        try await withServer(admit: Self.admit(.collected(limit: 64 * Self.megabyte), Self.echo), respond: Self.echo) { server in
            let port = server.port
            let statuses = try await offPool {
                let clients = try (0..<30).map { _ in
                    let client = try Client(port: port)
                    try client.send("POST /401 HTTP/1.1\r\nHost: a\r\nContent-Length: 63000000\r\n\r\n")
                    return client
                }
                let piece = [UInt8](repeating: 1, count: 100_000)
                // They send on as if nobody had answered. The server may close behind them in the end; the answer is there already.
                for _ in 0..<20 { for client in clients { try? client.send(piece) } }
                return try clients.map { try $0.reply().status }
            }
            #expect(statuses == [Int](repeating: 401, count: 30))
            #expect(server.server.mostBodyMemoryInUse == 0)
        }
    }

    @Test("curl reads the answer to 20 MB that nobody wants", arguments: [[], ["-H", "Expect: 100-continue"], ["-H", "Transfer-Encoding: chunked"]])
    func curlReads(_ options: [String]) async throws {
        try await withServer(admit: Self.admit(.collected(limit: 64 * Self.megabyte), Self.echo), respond: Self.echo) { server in
            let (status, output) = try await offPool {
                let file = try TemporaryFile(pattern(20_000_000))
                return try curl(options + ["-w", " %{http_code}", "--data-binary", "@\(file.path)", "http://127.0.0.1:\(server.port)/401"])
            }
            #expect(status == 0)
            #expect(String(decoding: output, as: UTF8.self) == "no 401")
        }
    }

    @Test("A request is asked about once, with its head")
    func once() async throws {
        let asked = Mutex<[String]>([])
        let admit: @Sendable (Request) -> Admission = { request in
            asked.withLock { $0.append("\(request.method) \(request.path)?\(request.queryValue("a") ?? "") \(request.headers["X-A"] ?? "") \(request.body.count)") }
            return .admitted(body: .collected(limit: 1 << 20), respond: Self.echo)
        }
        try await withServer(admit: admit, respond: Self.echo) { server in
            let text = try await server.withClient { try $0.post("/x?a=b", pattern(300_000), headers: "X-A: c\r\n").text }
            #expect(text == "300000")
            #expect(asked.withLock { $0 } == ["POST /x?b c 0"])
        }
    }

    @Test func anIgnoredBodyIsNotKept() async throws {
        try await withServer(admit: Self.admit(.ignored(limit: 1000), Self.echo), respond: Self.echo) { server in
            try await server.withClient { client in
                #expect(try client.post("/fine", pattern(1000)).text == "0")
                try client.send("POST /fine HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
                #expect(try client.reply().text == "0")
                let large = try Client(port: server.port)
                try large.send("POST /fine HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n")
                try large.send(pattern(2000))
                #expect(try large.reply().status == 413)
                #expect(try Client(port: server.port).post("/fine", pattern(1001)).status == 413)
            }
            #expect(server.server.mostBodyMemoryInUse == 0)
        }
    }

    // MARK: The memory

    private static let small = HTTPServer.Configuration(threads: 2, bodyMemory: 1_000_000)

    @Test("What does not fit is refused by its head, what fits is taken, and the memory is free again")
    func budget() async throws {
        let gate = Gate()
        let begun = Signal<Void>()
        let respond: @Sendable (Request) async -> Response = { request in
            begun.send()
            await gate.wait()
            return .text("\(request.body.count)")
        }
        try await withServer(Self.small, respond: respond) { server in
            async let first = server.withClient { try $0.post("/", pattern(600_000)).text }
            try await begun.next()
            #expect(server.server.bodyMemoryInUse == 600_000)
            let refused = try await server.withClient { client in
                try client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 400001\r\n\r\n")
                return try client.reply()
            }
            #expect(refused.status == 503 && refused.text == "all bodies at most 1000000")
            // One whose length nobody knows is refused when it grows too large.
            let grown = try await server.withClient { client in
                try client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n")
                try? client.send(pattern(1_000_000))
                return try client.reply()
            }
            #expect(grown.status == 503)
            async let second = server.withClient { try $0.post("/", pattern(400_000)).text }
            try await begun.next()
            #expect(server.server.bodyMemoryInUse == 1_000_000)
            gate.open()
            let firstAnswer = try await first
            #expect(firstAnswer == "600000")
            let secondAnswer = try await second
            #expect(secondAnswer == "400000")
            try await server.untilNoBodyIsHeld()
            #expect(server.server.mostBodyMemoryInUse == 1_000_000)
        }
    }

    @Test("A handler that has read the body lets go of it")
    func released() async throws {
        let gate = Gate()
        let begun = Signal<Int>()
        let respond: @Sendable (Request) async -> Response = { request in
            let size = request.body.count
            request.releaseBody()
            begun.send(size)
            await gate.wait()
            return .text("\(request.body.count)")
        }
        try await withServer(Self.small, respond: respond) { server in
            async let reply = server.withClient { try $0.post("/", pattern(900_000)).text }
            #expect(try await begun.next() == 900_000)
            // The thread that handed the request over may hold it for a moment longer.
            try await server.untilNoBodyIsHeld()
            gate.open()
            let replyAnswer = try await reply
            #expect(replyAnswer == "0")
        }
    }

    @Test("What is announced and does not come takes nothing from others")
    func announced() async throws {
        try await withServer(Self.small, respond: Self.echo) { server in
            let silent = try await offPool {
                try (0..<10).map { _ in
                    let client = try Client(port: server.port)
                    try client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 90000\r\n\r\nx")
                    return Handed(client)
                }
            }
            let late = try await offPool {
                let client = try Client(port: server.port)
                try client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\nx")
                return Handed(client)
            }
            try await server.until("all have begun") { server.server.bodyMemoryInUse >= 11 * 65536 }
            let text = try await server.withClient { try $0.post("/", pattern(250_000)).text }
            #expect(text == "250000")
            for client in silent + [late] { client.client.close() }
        }
    }

    @Test("Whichever way a body ends, its memory is free again", arguments: Leaving.allCases, [0, 300_000])
    func left(_ leaving: Leaving, sent: Int) async throws {
        try await withServer(Self.small, uploadLimit: Upload.limit, respond: Upload.list) { server in
            for (path, type) in [("/", ""), ("/upload", Upload.type)] {
                let client = try await offPool {
                    let client = try Client(port: server.port)
                    try client.send("POST \(path) HTTP/1.1\r\nHost: a\r\n\(type)Content-Length: 800000\r\n\r\n")
                    try client.send(Array(Upload.form(pattern(700_000)).prefix(sent)))
                    return Handed(client)
                }
                try await server.until("the body has begun") { server.server.bodyMemoryInUse > 0 }
                leaving.perform(client.client)
                try await server.untilNoBodyIsHeld()
                client.client.close()
            }
        }
    }

    @Test("Uploads have a share each, and what the reader keeps counts as well")
    func forms() async throws {
        let gate = Gate()
        let begun = Signal<FormUpload>()
        let respond: @Sendable (Request) async -> Response = { request in
            begun.send(request.form!)
            await gate.wait()
            return await Upload.list(request)
        }
        let share = FormUpload.limit + FormUpload.chunkSize
        try await withServer(.init(threads: 2, bodyMemory: 2 * share + 1000), uploadLimit: Upload.limit, respond: respond) { server in
            async let first = server.withClient { try $0.post("/upload", Upload.form(pattern(3_000_000)), headers: Upload.type).status }
            async let second = server.withClient { try $0.post("/upload", Upload.form(pattern(3_000_000)), headers: Upload.type).status }
            let form = try await begun.next()
            _ = try await begun.next()
            #expect(server.server.bodyMemoryInUse == 2 * share)
            let refused = try await server.withClient { client in
                try client.send("POST /upload HTTP/1.1\r\nHost: a\r\n\(Upload.type)Content-Length: 3000000\r\n\r\n")
                return try client.reply().status
            }
            #expect(refused == 503)
            try form.keep(1000)
            #expect(throws: FormUploadError.noMemory) { try form.keep(1) }
            gate.open()
            let firstAnswer = try await first
            #expect(firstAnswer == 200)
            let secondAnswer = try await second
            #expect(secondAnswer == 200)
        }
    }

    @Test("A stop in the middle of bodies frees their memory")
    func stop() async throws {
        let server = try await withServer(.init(threads: 2, bodyMemory: 1_000_000, drainTimeout: .milliseconds(1)), respond: Self.echo) { server in
            let client = try await offPool {
                let client = try Client(port: server.port)
                try client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 800000\r\n\r\n")
                try client.send(pattern(300_000))
                return Handed(client)
            }
            try await server.until("the body has begun") { server.server.bodyMemoryInUse > 0 }
            return (server.server, client)
        }
        #expect(server.0.bodyMemoryInUse == 0)
        server.1.client.close()
    }
}
