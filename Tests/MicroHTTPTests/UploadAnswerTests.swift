import Foundation
@testable import MicroHTTP
import Testing

/// Answers before the body is read.
@Suite(.timeLimit(.minutes(5)), .serialized) struct UploadAnswerTests {
    @Test(
        "20 MB refused by the head alone, as curl sees it",
        arguments: [
            [], ["-H", "Expect: 100-continue"], ["-H", "Expect:"], ["-H", "Transfer-Encoding: chunked"],
        ])
    func curlRefused(_ options: [String]) async throws {
        let respond: @Sendable (Request) async -> Response = { _ in .text("who are you?", status: 401) }
        try await withServer(uploadLimit: Upload.limit, respond: respond) { server in
            let results = try await offPool {
                let file = try TemporaryFile(pattern(20_000_000))
                let common = ["--expect100-timeout", "60", "-w", " %{http_code} %{size_upload}"]
                return try (0..<5).map { _ in
                    try curl(options + common + ["-F", "file=@\(file.path)", "http://127.0.0.1:\(server.port)/upload"])
                }
            }
            for (status, output) in results {
                #expect(status == 0)
                let words = String(decoding: output, as: UTF8.self).split(separator: " ")
                #expect(words.dropLast() == ["who", "are", "you?", "401"])
                // Nothing of it was asked for.
                if options.contains("Expect: 100-continue") { #expect(words.last == "0") }
            }
        }
    }

    @Test(
        "20 MB refused in the middle, as curl sees it",
        arguments: [
            ["-H", "Expect:"], ["-H", "Expect: 100-continue"], ["-H", "Transfer-Encoding: chunked"],
        ])
    func curlInterrupted(_ options: [String]) async throws {
        let respond: @Sendable (Request) async -> Response = { request in
            while let element = try? await request.form?.next() { if case .bytes = element { break } }
            return .text("not this one", status: 409)
        }
        try await withServer(uploadLimit: Upload.limit, respond: respond) { server in
            let results = try await offPool {
                let file = try TemporaryFile(pattern(20_000_000))
                return try (0..<5).map { _ in
                    try curl(options + ["-w", " %{http_code}", "-F", "file=@\(file.path)", "http://127.0.0.1:\(server.port)/upload"])
                }
            }
            for (status, output) in results {
                #expect(status == 0)
                #expect(String(decoding: output, as: UTF8.self) == "not this one 409")
            }
        }
    }

    @Test("A refusal is sent at once, not when more of the body comes", arguments: [0, 1000, 100_000])
    func atOnce(sent: Int) async throws {
        let respond: @Sendable (Request) async -> Response = { request in
            if sent > 0 { _ = try? await request.form?.next() }
            return .text("no", status: 422)
        }
        try await withServer(uploadLimit: Upload.limit, respond: respond) { server in
            try await server.withClient { client in
                try client.send("POST /upload HTTP/1.1\r\nHost: a\r\n\(Upload.type)Content-Length: 20000000\r\n\r\n")
                try client.send(Array(Upload.form(pattern(200_000)).prefix(sent)))
                let reply = try client.reply()
                #expect(reply.text == "no")
                #expect(reply.headers["Connection"] == "close")
                // What comes now is not answered again.
                try client.send([1, 2, 3])
                #expect(client.isClosedByServer())
            }
        }
    }

    @Test("100 Continue is sent when the handler asks for the body, and a refusal instead of it")
    func expectContinue() async throws {
        let gate = Gate()
        let started = Signal<Void>()
        let respond: @Sendable (Request) async -> Response = { request in
            if request.path == "/upload/refused" { return .text("no", status: 403) }
            started.send()
            await gate.wait()
            return await Upload.list(request)
        }
        try await withServer(uploadLimit: Upload.limit, respond: respond) { server in
            let port = server.port
            let body = Upload.form([1, 2, 3])
            let head = "HTTP/1.1\r\nHost: a\r\n\(Upload.type)Content-Length: \(body.count)\r\nExpect: 100-Continue\r\n\r\n"
            let client = try await offPool {
                let client = try Client(port: port)
                try client.send("POST /upload \(head)")
                return Handed(client)
            }
            try await started.next()
            try await offPool {
                let client = client.client
                var waiting = pollfd(fd: client.descriptor, events: Int16(POLLIN), revents: 0)
                #expect(poll(&waiting, 1, 0) == 0)
                gate.open()
                #expect(try client.head().status == 100)
                try client.send(body)
                #expect(try client.reply().text == "file(a.bin, -)=3")
                try client.send("POST /upload/refused \(head)")
                #expect(try client.head().status == 403)
                #expect(client.isClosedByServer() == false)  // the text of it
            }
        }
    }

    @Test(
        "After an early answer to a small form, and after a success, the connection lives on",
        arguments: [
            (1000, 403), (250_000, 403), (5_000_000, 200),
        ])
    func keepsConnection(size: Int, status: Int) async throws {
        let respond: @Sendable (Request) async -> Response = { request in
            if request.path == "/upload/parts" { _ = try? await request.form?.next() }
            return .text("that is enough", status: status)
        }
        try await withServer(uploadLimit: Upload.limit, respond: respond) { server in
            try await server.withClient { client in
                for path in ["/upload", "/upload/parts", "/upload", "/"] {
                    let reply = try client.post(path, Upload.form(pattern(size)), headers: Upload.type)
                    #expect(reply.status == status)
                    #expect(reply.text == "that is enough")
                    #expect(reply.headers["Connection"] == nil)
                }
            }
        }
    }

    @Test("A stream as an early answer is sent after the rest of the body")
    func streamedAnswer() async throws {
        let respond: @Sendable (Request) async -> Response = { request in
            _ = try? await request.form?.next()
            return Response(status: 409, body: .stream(ManualSource([.bytes(Array("streamed".utf8)), .finished]), length: nil))
        }
        try await withServer(uploadLimit: Upload.limit, respond: respond) { server in
            let reply = try await server.withClient { try $0.post("/upload", Upload.form(pattern(3_000_000)), headers: Upload.type) }
            #expect(reply.status == 409)
            #expect(reply.text == "streamed")
        }
    }
}
