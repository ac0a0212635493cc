import Foundation
import MicroHTTP
import Testing

@Suite(.timeLimit(.minutes(5))) struct RequestTests {
    /// Answers what it saw.
    private static let echo: @Sendable (Request) async -> Response = { request in
        var headers: HTTPHeaders = ["X-Method": request.method, "X-Path": request.path, "X-Peer": request.remoteAddress]
        for (name, value) in request.query { headers.add(name: "X-Query", value: "\(name)=\(value)") }
        for value in request.headers.values("x-sent") { headers.add(name: "X-Received", value: value) }
        return Response(headers: headers, body: .bytes(request.body))
    }

    @Test func headAndBodyArrive() async throws {
        try await withServer(respond: Self.echo) { server in
            let reply = try await server.withClient {
                try $0.post("/a%20b/%C3%BC?x=1&y=a+b%26c&x=2&flag", Array("hello".utf8), headers: "x-SENT: one\r\nX-Sent: two\r\n")
            }
            #expect(reply.status == 200)
            #expect(reply.text == "hello")
            #expect(reply.headers["x-method"] == "POST")
            #expect(reply.headers["X-Path"] == "/a b/ü")
            #expect(reply.headers["X-Peer"] == "127.0.0.1")
            #expect(reply.headers.values("X-Query") == ["x=1", "y=a b&c", "x=2", "flag="])
            #expect(reply.headers.values("X-Received") == ["one", "two"])
            #expect(reply.headers["Content-Length"] == "5")
            #expect(reply.headers["Date"]?.hasSuffix("GMT") == true)
        }
    }

    @Test("A large body comes through whole", arguments: [false, true])
    func largeBody(isChunked: Bool) async throws {
        let size = 40 * 1024 * 1024
        let body = pattern(size)
        let same: @Sendable (Request) async -> Response = { .text(isSame($0.body, body) ? "same" : "different, \($0.body.count) bytes") }
        try await withServer(respond: same) { server in
            let reply = try await server.withClient { client in
                guard isChunked else { return try client.post("/", body) }
                try client.send("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
                for start in stride(from: 0, to: size, by: 100_000) {
                    let chunk = body[start..<min(start + 100_000, size)]
                    try client.send("\(String(chunk.count, radix: 16));extension=1\r\n")
                    try client.send(chunk + Array("\r\n".utf8))
                }
                try client.send("0\r\nTrailer: ignored\r\n\r\n")
                return try client.reply()
            }
            #expect(reply.text == "same")
        }
    }

    @Test(
        "Byte by byte",
        arguments: [
            "POST /slow?a=b HTTP/1.1\r\nHost: test\r\nContent-Length: 300\r\n\r\n" + String(repeating: "x", count: 300),
            "POST /slow?a=b HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n" + String(repeating: "x", count: 100)
                + "\r\nC8\r\n" + String(repeating: "x", count: 200) + "\r\n0\r\n\r\n",
        ])
    func slowBody(_ message: String) async throws {
        try await withServer(respond: Self.echo) { server in
            let reply = try await server.withClient { client in
                for byte in message.utf8 { try client.send([byte]) }
                return try client.reply()
            }
            #expect(reply.text == String(repeating: "x", count: 300))
            #expect(reply.headers.values("X-Query") == ["a=b"])
        }
    }

    @Test("A Content-Length above the limit is refused before the body is read", arguments: ["", "Expect: 100-continue\r\n"])
    func tooLarge(_ expectation: String) async throws {
        try await withServer(bodyLimit: 1000, respond: Self.echo) { server in
            let reply = try await server.withClient { client in
                try client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1001\r\n\(expectation)\r\n")
                let (status, headers) = try client.head()  // not 100
                #expect(status == 413)
                #expect(headers["Connection"] == "close")
                let text = try client.rest()
                #expect(String(decoding: text, as: UTF8.self) == "too large, at most 1000")
                return try Client(port: server.port).post("/", [UInt8](repeating: 1, count: 1000))
            }
            #expect(reply.body.count == 1000)
        }
    }

    @Test("A client in the middle of its upload gets to read the refusal")
    func tooLargeInFlight() async throws {
        try await withServer(bodyLimit: 1000, respond: Self.echo) { server in
            let port = server.port
            let replies = try await offPool {
                try (0..<20).map { _ in
                    let client = try Client(port: port)
                    try client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 3000000\r\n\r\n")
                    try client.send([UInt8](repeating: 1, count: 3_000_000))
                    return try client.reply()
                }
            }
            #expect(replies.allSatisfy { $0.status == 413 && $0.text == "too large, at most 1000" })
        }
    }

    @Test("A chunked body is refused as soon as it crosses the limit")
    func tooLargeChunked() async throws {
        try await withServer(bodyLimit: 1000, respond: Self.echo) { server in
            try await server.withClient { client in
                let head = "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
                try client.send(head + "3e8\r\n" + String(repeating: "x", count: 1000) + "\r\n0\r\n\r\n")
                #expect(try client.reply().body.count == 1000)
                // Without an end.
                let client = try Client(port: server.port)
                try client.send(head + "ffffff\r\n" + String(repeating: "x", count: 1001))
                let reply = try client.reply()
                #expect(reply.status == 413)
                #expect(reply.headers["Content-Type"] == "text/plain")
                #expect(reply.headers["Connection"] == "close")
                #expect(reply.text == "too large, at most 1000")
                #expect(client.isClosedByServer())
            }
        }
    }

    @Test func expectContinue() async throws {
        try await withServer(respond: Self.echo) { server in
            try await server.withClient { client in
                try client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
                #expect(try client.head().status == 100)
                try client.send("body")
                #expect(try client.reply().text == "body")
            }
        }
    }

    @Test("Pipelined requests are answered in order, however long each takes")
    func pipelined() async throws {
        let gate = Gate()
        let respond: @Sendable (Request) async -> Response = { request in
            if request.path == "/0" { await gate.wait() } else { gate.open() }
            return .text(request.path + String(decoding: request.body, as: UTF8.self))
        }
        try await withServer(respond: respond) { server in
            let texts = try await server.withClient { client in
                var message = ""
                for index in 1...50 {
                    message +=
                        index % 3 == 0
                        ? "POST /\(index) HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\n+++"
                        : "GET /\(index) HTTP/1.1\r\nHost: test\r\n\r\n"
                }
                try client.send(message)
                return try (1...50).map { _ in try client.reply().text }
            }
            #expect(texts == (1...50).map { $0 % 3 == 0 ? "/\($0)+++" : "/\($0)" })
            let slow = try await server.withClient { client in
                try client.send("GET /0 HTTP/1.1\r\nHost: test\r\n\r\nGET /1 HTTP/1.1\r\nHost: test\r\n\r\n")
                _ = try Client(port: server.port).get("/unblock")
                return try [client.reply().text, client.reply().text]
            }
            #expect(slow == ["/0", "/1"])
        }
    }

    @Test(
        "Malformed requests are refused, and the server lives on",
        arguments: [
            ("GET / HTTP/1.1\r\n\r\n", "There must be one Host header field."),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "There must be one Host header field."),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\nhello", "The header field name \"Content-Length \" is not a token."),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", "Content-Length is not one number."),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615\r\n\r\n", "too large, at most 67108864"),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                "Content-Length and Transfer-Encoding contradict each other."
            ),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "The only transfer coding understood is \"chunked\"."),
            ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "HTTP/1.0 knows no Transfer-Encoding."),
        ])
    func malformed(_ message: String, _ reason: String) async throws {
        try await withServer(respond: { _ in .text("handled") }) { server in
            try await server.withClient { client in
                try client.send(message)
                let reply = try client.reply()
                #expect(reply.status == 400 || reply.status == 413)
                #expect(reply.text == reason)
                #expect(client.isClosedByServer())
                #expect(try Client(port: server.port).get("/").text == "handled")
            }
        }
    }

    private static let refused: [(String, Int, String)] = [
        ("GET / HTTP/9.9\r\nHost: a\r\n\r\n", 505, "unsupported version"),
        ("GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505, "unsupported version"),
        ("GET / FTP/1.1\r\nHost: a\r\n\r\n", 400, notUnderstood),
        ("GET /\r\n\r\n", 400, notUnderstood),
        ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400, notUnderstood),
        ("GET / HTTP/1.1\r\nno colon\r\n\r\n", 400, notUnderstood),
        ("GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", 400, notUnderstood),
        ("GET / HTTP/1.1\r\nHost: a\r\nX\u{0}: b\r\n\r\n", 400, notUnderstood),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: abc\r\n\r\n", 400, "Content-Length is not one number."),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n", 400, "Content-Length is not one number."),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5 5\r\n\r\nhello", 400, "Content-Length is not one number."),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", 400, "Content-Length is not one number."),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello", 400, "Content-Length is not one number."),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello", 400, "Content-Length is not one number."),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n", 413, tooLarge),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: abc\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "Content-Length is not one number."),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400, notUnderstood),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloworld\r\n", 400, notUnderstood),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffffffff\r\n", 413, tooLarge),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked,\r\n\r\n0\r\n\r\n", 400, "The only transfer coding understood is \"chunked\"."),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: " + String(repeating: "a", count: 40_000), 431, headTooLarge),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nno colon\r\n\r\n", 400, notUnderstood),
    ]

    /// What `MHD_queue_response` of CMicroHTTPDOverrides is for: libmicrohttpd has an HTML page for each of these.
    @Test("What libmicrohttpd refuses by itself is answered as all errors are, once", arguments: refused)
    func refusedByTheLibrary(_ message: String, _ status: Int, _ text: String) async throws {
        try await withServer(respond: { _ in .text("handled") }) { server in
            try await server.withClient { client in
                try client.send(message)
                let reply = try client.reply()
                #expect(reply.status == status)
                #expect(reply.text == text)
                #expect(reply.headers["Content-Type"] == "text/plain")
                #expect(reply.headers["Connection"] == "close")
                // Nothing else, in particular no second head.
                #expect(try client.rest() == [])
                #expect(try Client(port: server.port).get("/").text == "handled")
            }
        }
    }

    private static let notUnderstood = "A line of it cannot be understood: the request line, a header field, the size of a chunk, or a trailer."
    private static let tooLarge = "too large, at most 67108864"
    private static let headTooLarge = "head too large, at most 16384"

    @Test(
        "What is no HTTP at all is closed without a word: there is no way into libmicrohttpd there",
        arguments: [
            "GET\r\n\r\n", "\r\n\r\n\r\nnonsense\r\n\r\n", " / HTTP/1.1\r\nHost: a\r\n\r\n", "\u{16}\u{3}\u{1}\u{2}\n",
        ])
    func noHTTP(_ message: String) async throws {
        try await withServer(respond: { _ in .text("handled") }) { server in
            try await server.withClient { client in
                try client.send(message)
                #expect(try client.rest() == [])
                #expect(try Client(port: server.port).get("/").text == "handled")
            }
        }
    }

    @Test(
        "A client that leaves in the middle of a request does not keep its connection",
        arguments: [
            "", "\u{0}\u{1}\r\n", "GET / HT", "GET / HTTP/1.1\r\nHost: a\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        ])
    func leavesInTheMiddle(_ message: String) async throws {
        // No time limit of the server ends it.
        let configuration = HTTPServer.Configuration(threads: 2, idleTimeout: .zero, headTimeout: .zero, bodyTimeout: .zero)
        try await withServer(configuration, respond: { _ in .text("handled") }) { server in
            try await server.withClient { client in
                try client.send(message)
                client.finishSending()
                #expect(client.isClosedByServer())
            }
        }
    }

    @Test func connectionsAreReused() async throws {
        try await withServer(respond: Self.echo) { server in
            try await server.withClient { client in
                for index in 0..<500 {
                    let body = Array("\(index)".utf8)
                    let reply = try client.post("/", body)
                    #expect(reply.body == body)
                }
            }
        }
    }

    @Test func oldClients() async throws {
        try await withServer(respond: Self.echo) { server in
            try await server.withClient { client in
                try client.send("POST /old HTTP/1.0\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nhi")
                let first = try client.reply()
                #expect(first.text == "hi")
                #expect(first.headers["Connection"]?.lowercased() == "keep-alive")
                try client.send("GET /old HTTP/1.0\r\n\r\n")
                let second = try client.reply()
                #expect(second.headers["X-Path"] == "/old")
                #expect(client.isClosedByServer())
            }
        }
    }

    @Test("Methods are passed on as they are", arguments: ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "get"])
    func methods(_ method: String) async throws {
        try await withServer(respond: Self.echo) { server in
            let reply = try await server.withClient { client in
                try client.send("\(method) / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n")
                return try client.reply()
            }
            #expect(reply.headers["X-Method"] == method)
        }
    }

    @Test("Real curl", arguments: [["--http1.1"], ["--http1.0"], ["-H", "Transfer-Encoding: chunked"]])
    func realCurl(_ options: [String]) async throws {
        try await withServer(respond: Self.echo) { server in
            let text = try await offPool {
                let file = FileManager.default.temporaryDirectory.appendingPathComponent("curl-\(UUID().uuidString)")
                try Data(repeating: 65, count: 30_000).write(to: file)
                defer { try? FileManager.default.removeItem(at: file) }
                return try curl(["--data-binary", "@\(file.path)"] + options + ["http://127.0.0.1:\(server.port)/x"])
            }
            #expect(text.status == 0)
            #expect(text.output == [UInt8](repeating: 65, count: 30_000))
        }
    }
}
