@testable import MicroHTTP
import Testing

@Suite(.timeLimit(.minutes(5)), .serialized) struct UploadTests {
    // MARK: Forms

    @Test("Real curl", arguments: [[], ["--http1.0"], ["-H", "Transfer-Encoding: chunked"], ["-H", "Expect: 100-continue"], ["-H", "Expect:"]])
    func curlForm(_ options: [String]) async throws {
        try await withServer(uploadLimit: Upload.limit, respond: Upload.list) { server in
            let (status, output) = try await offPool {
                let file = try TemporaryFile(pattern(3_000_000))
                return try curl(
                    options + [
                        "-F", "tags=a", "-F", "file=@\(file.path);filename=\"b\\\"ä.bin\";type=image/png", "-F", "tags=", "-F", "tags=ccc",
                        "http://127.0.0.1:\(server.port)/upload",
                    ]
                )
            }
            #expect(status == 0)
            #expect(String(decoding: output, as: UTF8.self) == "tags(-, -)=1 file(b\"ä.bin, image/png)=3000000 tags(-, -)=0 tags(-, -)=3")
        }
    }

    @Test("64 MB arrive as they were sent, in large pieces", arguments: [false, true])
    func large(isChunked: Bool) async throws {
        let size = 64 * 1024 * 1024
        let content = pattern(size)
        let respond: @Sendable (Request) async -> Response = { request in
            var offset = 0
            var pieces = 0
            do {
                for try await element in request.form! {
                    guard case .bytes(let bytes) = element else { continue }
                    guard isSame(bytes, Array(content[offset..<min(offset + bytes.count, size)])) else {
                        return .text("wrong after \(offset)")
                    }
                    offset += bytes.count
                    pieces += 1
                }
            } catch { return .text("\(error) after \(offset)") }
            return .text(offset == size && pieces <= size / FormUpload.chunkSize + 1 ? "same" : "\(offset) in \(pieces)")
        }
        try await withServer(uploadLimit: Upload.limit, respond: respond) { server in
            let text = try await server.withClient { client in
                let body = Upload.form(content)
                guard isChunked else { return try client.post("/upload", body, headers: Upload.type).text }
                try client.send("POST /upload HTTP/1.1\r\nHost: test\r\n\(Upload.type)Transfer-Encoding: chunked\r\n\r\n")
                for start in stride(from: 0, to: body.count, by: 100_000) {
                    let chunk = body[start..<min(start + 100_000, body.count)]
                    try client.send("\(String(chunk.count, radix: 16))\r\n")
                    try client.send(chunk + Array("\r\n".utf8))
                }
                try client.send("0\r\n\r\n")
                return try client.reply().text
            }
            #expect(text == "same")
        }
    }

    @Test("Byte by byte", arguments: [false, true])
    func byteByByte(isChunked: Bool) async throws {
        try await withServer(uploadLimit: Upload.limit, respond: Upload.list) { server in
            let text = try await server.withClient { client in
                let body = Upload.form(Array("hello\r\n--X".utf8))
                try client.send("POST /upload HTTP/1.1\r\nHost: test\r\n\(Upload.type)")
                try client.send(isChunked ? "Transfer-Encoding: chunked\r\n\r\n" : "Content-Length: \(body.count)\r\n\r\n")
                for byte in body { try client.send(isChunked ? Array("1\r\n".utf8) + [byte, 13, 10] : [byte]) }
                if isChunked { try client.send("0\r\n\r\n") }
                return try client.reply().text
            }
            #expect(text == "file(a.bin, -)=10")
        }
    }

    @Test("A slow reader makes the client wait, and nothing is lost")
    func slowReader() async throws {
        let size = 20_000_000
        let content = pattern(size)
        let gate = Gate()
        let begun = Signal<FormUpload>()
        let respond: @Sendable (Request) async -> Response = { request in
            let form = request.form!
            var received: [UInt8] = []
            var most = 0
            do {
                _ = try await form.next()
                begun.send(form)
                await gate.wait()
                while let element = try await form.next() {
                    guard case .bytes(let bytes) = element else { continue }
                    received += bytes
                    most = max(most, form.waitingBytes)
                    for _ in 0..<3 { await Task.yield() }
                }
            } catch { return .text("\(error)") }
            return .text(isSame(received, content) ? "\(most)" : "different, \(received.count)")
        }
        try await withServer(uploadLimit: Upload.limit, respond: respond) { server in
            async let text = server.withClient { try $0.post("/upload", Upload.form(content), headers: Upload.type).text }
            let form = try await begun.next()
            try await server.until("the form is full") { form.isFull }
            gate.open()
            let most = try #require(Int(try await text))
            // The limit, one read of the connection, and the memory that the part counts for.
            #expect(most < FormUpload.limit + HTTPServer.Configuration().connectionMemory + 1024)
            #expect(most > FormUpload.limit / 2)
        }
    }

    @Test(
        "Malformed forms",
        arguments: [
            ("multipart/form-data; boundary=XX", "--XX\r\n", "The body ends before its last boundary."),
            ("multipart/form-data; boundary=XX", "", "The body has no part: the boundary of its Content-Type does not occur in it."),
            (
                "multipart/form-data; boundary=XX", "--XX\r\n\r\n\r\n--XX--",
                "A part has no header like Content-Disposition: form-data; name=\"file\"."
            ),
            ("multipart/form-data", "--XX--", noBoundary),
            ("multipart/form-data; boundary=", "--XX--", noBoundary),
            ("multipart/form-data; boundary=\"", "--XX--", noBoundary),
            ("multipart/form-data; boundary=\"\"", "--XX--", noBoundary),
            ("multipart/form-data; boundary=Ä", "--Ä--", noBoundary),
            ("Multipart/Form-Data; charset=utf-8; Boundary=\"X X\"; x=y", "--X X--", ""),
            ("multipart/form-data;boundary=X=X", "--X=X--", ""),
            ("multipart/form-datas; boundary=XX", "--XX--", "no form, body of 0"),
            ("multipart/mixed; boundary=XX", "--XX--", "no form, body of 0"),
            ("application/octet-stream", "--XX--", "no form, body of 0"),
        ])
    func malformed(_ type: String, _ body: String, _ text: String) async throws {
        try await withServer(uploadLimit: Upload.limit, respond: Upload.list) { server in
            try await server.withClient { client in
                // Answered in the ordinary way, so the connection lives on.
                for _ in 0..<2 {
                    let reply = try client.post("/upload", Array(body.utf8), headers: "Content-Type: \(type)\r\n")
                    #expect(reply.text == text)
                    #expect(reply.headers["Connection"] == nil)
                }
            }
        }
    }

    private static let noBoundary = "The Content-Type has no usable boundary; it is written multipart/form-data; boundary=…"

    @Test("Other routes and methods get their body whole")
    func collected() async throws {
        try await withServer(uploadLimit: Upload.limit, respond: Upload.list) { server in
            try await server.withClient { client in
                let body = Upload.form([1, 2, 3])
                #expect(try client.post("/other", body, headers: Upload.type).text == "no form, body of \(body.count)")
                try client.send("PUT /upload HTTP/1.1\r\nHost: a\r\n\(Upload.type)Content-Length: 3\r\n\r\nabc")
                #expect(try client.reply().text == "no form, body of 3")
                try client.send("GET /upload HTTP/1.1\r\nHost: a\r\n\(Upload.type)Content-Length: 3\r\n\r\nabc")
                #expect(try client.reply().text == "no form, body of 3")
                #expect(try client.post("/upload", [], headers: "").text == "no form, body of 0")
                try client.send("HEAD /upload HTTP/1.1\r\nHost: a\r\n\(Upload.type)Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
                #expect(try client.reply(withBody: false).headers["Content-Length"] == "18")
            }
        }
    }

    @Test("Uploads and other requests in one go on one connection, also by HTTP/1.0")
    func pipelined() async throws {
        try await withServer(uploadLimit: Upload.limit, respond: Upload.list) { server in
            try await server.withClient { client in
                let body = Upload.form(pattern(500_000))
                let head = "Host: a\r\n\(Upload.type)Content-Length: \(body.count)\r\n"
                for _ in 0..<3 {
                    let message = Array("POST /upload HTTP/1.1\r\n\(head)\r\n".utf8) + body + Array("GET / HTTP/1.1\r\nHost: a\r\n\r\n".utf8)
                    try client.send(message + message)
                    for _ in 0..<2 {
                        #expect(try client.reply().text == "file(a.bin, -)=500000")
                        #expect(try client.reply().text == "no form, body of 0")
                    }
                }
                try client.send(Array("POST /upload HTTP/1.0\r\n\(head)Connection: keep-alive\r\n\r\n".utf8) + body)
                #expect(try client.reply().text == "file(a.bin, -)=500000")
                try client.send(Array("POST /upload HTTP/1.0\r\n\(head)\r\n".utf8) + body)
                #expect(try client.reply().text == "file(a.bin, -)=500000")
                #expect(client.isClosedByServer())
            }
        }
    }

    // MARK: Limits

    @Test("A form over the limit", arguments: ["", "Expect: 100-continue\r\n"])
    func tooLarge(_ expectation: String) async throws {
        try await withServer(uploadLimit: { _, _ in 1_000_000 }, respond: Upload.list) { server in
            try await server.withClient { client in
                // By its length: refused without a handler.
                try client.send("POST /upload HTTP/1.1\r\nHost: a\r\n\(Upload.type)Content-Length: 1000001\r\n\(expectation)\r\n")
                let (status, headers) = try client.head()  // not 100
                #expect(status == 413)
                #expect(headers["Connection"] == "close")
                #expect(String(decoding: try client.rest(), as: UTF8.self) == "too large, at most 1000000")
                // Only its chunks tell: the handler learns it.
                let chunked = try Client(port: server.port)
                try chunked.send("POST /upload HTTP/1.1\r\nHost: a\r\n\(Upload.type)Transfer-Encoding: chunked\r\n\(expectation)\r\n")
                if !expectation.isEmpty { #expect(try chunked.head().status == 100) }
                let body = Upload.form([UInt8](repeating: 1, count: 2_000_000))
                try chunked.send(Array("\(String(body.count, radix: 16))\r\n".utf8) + body + Array("\r\n0\r\n\r\n".utf8))
                let reply = try chunked.reply()
                #expect(reply.status == 413)
                #expect(reply.text == "tooLarge(limit: 1000000)")
                #expect(reply.headers["Connection"] == "close")
            }
        }
    }
}
