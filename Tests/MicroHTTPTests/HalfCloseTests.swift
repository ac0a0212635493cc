@testable import MicroHTTP
import Testing

/// Clients that close their sending side, wherever a request stands. No time limit of the server helps here: each of them would wait for ever for what
/// is not noticed.
@Suite(.timeLimit(.minutes(5))) struct HalfCloseTests {
    private static let patient = HTTPServer.Configuration(threads: 2, idleTimeout: .zero, headTimeout: .zero, bodyTimeout: .zero, stallTimeout: .zero)

    struct Framing: Sendable, CustomTestStringConvertible {
        let name: String
        /// After the request line.
        let fields: String
        var version = "1.1"
        /// Parts of a body, none of which is whole.
        let cuts: [String]
        var testDescription: String { name }
    }

    private static let eighty = String(repeating: "x", count: 80)
    private static let chunkCuts = [
        "", "5", "50", "50\r", "50;x=y", "50\r\n", "50\r\n" + eighty.prefix(50), "50\r\n" + eighty, "50\r\n\(eighty)\r", "50\r\n\(eighty)\r\n", "50\r\n\(eighty)\r\n1",
        "50\r\n\(eighty)\r\n1\r\n", "50\r\n\(eighty)\r\n0", "50\r\n\(eighty)\r\n0\r\n", "0\r\n", "0\r\nX", "0\r\nX: a\r", "0\r\nX: a\r\n", "0\r\nX: a\r\nY: b\r\n", "0\r\n\r",
    ]
    private static let framings = [
        Framing(name: "length", fields: "Connection: close\r\nContent-Length: 80\r\n", cuts: ["", "x", String(eighty.prefix(50)), String(eighty.dropLast())]),
        Framing(name: "length, HTTP/1.0", fields: "Content-Length: 80\r\n", version: "1.0", cuts: ["", String(eighty.prefix(50))]),
        Framing(name: "length, 100-continue", fields: "Connection: close\r\nExpect: 100-continue\r\nContent-Length: 80\r\n", cuts: ["", String(eighty.prefix(50))]),
        Framing(name: "chunks", fields: "Connection: close\r\nTransfer-Encoding: chunked\r\n", cuts: chunkCuts),
    ]

    @Test("A body that does not come to its end is answered at once", arguments: framings, ["/", "/upload"])
    func shortBody(_ framing: Framing, _ path: String) async throws {
        let handled = Signal<String>()
        let respond: @Sendable (Request) async -> Response = { request in
            if let form = request.form { return .text("\(await Upload.size(form))") }
            handled.send(request.path)
            return .text("handled")
        }
        try await withServer(Self.patient, uploadLimit: Upload.limit, respond: respond) { server in
            try await server.withClient { _ in
                for cut in framing.cuts {
                    for round in 0..<20 {
                        let client = try Client(port: server.port)
                        let head = "POST \(path) HTTP/\(framing.version)\r\nHost: a\r\n\(Upload.type)\(framing.fields)\r\n"
                        // At once, or in two pieces, so that the end comes before, with or after the reading of the head.
                        if round % 2 == 0 {
                            try client.send(head + cut)
                        } else {
                            try client.send(head)
                            if !cut.isEmpty { try client.send(cut) }
                        }
                        client.finishSending()
                        var reply = try client.reply()
                        if reply.status == 100 { reply = try client.reply() }
                        #expect(reply.status == 400, "\(cut.debugDescription)")
                        let isLengthKnown = framing.fields.contains("Content-Length")
                        #expect(reply.text.contains(isLengthKnown ? "announces 80 bytes" : "before its last chunk"), "\(cut.debugDescription): \(reply.text)")
                        #expect(try client.rest() == [])
                    }
                }
            }
            // None of them was.
            handled.send("nothing")
            #expect(try await handled.next() == "nothing")
        }
    }

    @Test("On a connection that is kept, the end of a short body closes it at once", arguments: framings, ["/", "/upload"])
    func keptConnection(_ framing: Framing, _ path: String) async throws {
        let respond: @Sendable (Request) async -> Response = { request in
            guard let form = request.form else { return .text("handled") }
            return .text("\(await Upload.size(form))")
        }
        try await withServer(Self.patient, uploadLimit: Upload.limit, respond: respond) { server in
            try await server.withClient { _ in
                let fields = framing.version == "1.0" ? "Connection: keep-alive\r\n\(framing.fields)" : framing.fields.replacing("Connection: close\r\n", with: "")
                for cut in framing.cuts {
                    for _ in 0..<10 {
                        let client = try Client(port: server.port)
                        try client.send("POST \(path) HTTP/\(framing.version)\r\nHost: a\r\n\(Upload.type)\(fields)\r\n\(cut)")
                        client.finishSending()
                        let rest = String(decoding: (try? client.rest()) ?? [], as: UTF8.self)
                        #expect(rest == "" || rest == "HTTP/1.1 100 Continue\r\n\r\n", "\(cut.debugDescription)")
                    }
                }
            }
        }
    }

    @Test(
        "A head that does not come to its end closes the connection at once",
        arguments: [
            "", "P", "POST / HTTP/1.0", "POST / HTTP/1.0\r", "POST / HTTP/1.0\r\n", "POST / HTTP/1.1\r\nHo", "POST / HTTP/1.1\r\nHost: a\r\n", "POST / HTTP/1.1\r\nHost: a\r\nX: b\r\n\r",
            "\r\n", "\r\n\r\n",
        ])
    func shortHead(_ head: String) async throws {
        try await withServer(Self.patient, respond: { _ in .text("handled") }) { server in
            try await server.withClient { _ in
                for isKept in [false, true] {
                    for _ in 0..<20 {
                        let client = try Client(port: server.port)
                        if isKept { _ = try client.get("/") }
                        try client.send(head)
                        client.finishSending()
                        #expect(try client.rest() == [])
                    }
                }
            }
        }
    }

    @Test("A whole form arrives, also when its reader comes late", arguments: [100, 200_000, 290_000, 600_000], ["HTTP/1.0", "HTTP/1.1"])
    func wholeForm(_ size: Int, _ version: String) async throws {
        let ended = Signal<Void>()
        let begun = Signal<Void>()
        let respond: @Sendable (Request) async -> Response = { request in
            begun.send()
            if request.path == "/upload/late" { try? await ended.next() }
            return .text("\(await Upload.size(request.form!))")
        }
        try await withServer(Self.patient, uploadLimit: Upload.limit, respond: respond) { server in
            let body = Upload.form(pattern(size))
            let lengths = ["Content-Length: \(body.count)\r\n\r\n"] + (version == "HTTP/1.0" || size > FormUpload.limit / 2 ? [] : ["Transfer-Encoding: chunked\r\n\r\n"])
            for path in size > 300_000 ? ["/upload"] : ["/upload", "/upload/late"] {
                for length in lengths {
                    for _ in 0..<10 {
                        let client = Handed(try Client(port: server.port))
                        try await offPool {
                            let isChunked = length.hasPrefix("Transfer")
                            try client.client.send(
                                Array("POST \(path) \(version)\r\nHost: a\r\nConnection: close\r\n\(Upload.type)\(length)\(isChunked ? "\(String(body.count, radix: 16))\r\n" : "")".utf8)
                                    + body + Array((isChunked ? "\r\n0\r\n\r\n" : "").utf8))
                            client.client.finishSending()
                        }
                        try await begun.next()
                        if path == "/upload/late" { ended.send() }
                        let text = try await offPool { try client.client.reply().text }
                        #expect(text == "\(size)", "\(path) \(length)")
                    }
                }
            }
        }
    }

    @Test("An early error reaches the client in spite of its end", arguments: [100, 290_000])
    func earlyError(_ size: Int) async throws {
        try await withServer(Self.patient, uploadLimit: Upload.limit, respond: { _ in .text("no", status: 403) }) { server in
            try await server.withClient { _ in
                let body = Upload.form(pattern(size))
                for isShort in [false, true] {
                    for _ in 0..<10 {
                        let client = try Client(port: server.port)
                        try client.send("POST /upload HTTP/1.0\r\n\(Upload.type)Content-Length: \(body.count)\r\n\r\n")
                        try? client.send(isShort ? Array(body.dropLast(20)) : body)
                        client.finishSending()
                        // Who sends too little may hear of that first.
                        let status = try client.reply().status
                        #expect(status == 403 || (isShort && status == 400))
                    }
                }
            }
        }
    }
}
