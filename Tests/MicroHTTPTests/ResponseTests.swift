import Foundation
import MicroHTTP
import Testing

@Suite(.timeLimit(.minutes(5))) struct ResponseTests {
    @Test("Bodies in memory, copied or sent from where they are", arguments: [0, 1, 2048, 2049, 300_000, 33_000_000])
    func bytes(_ count: Int) async throws {
        let body = pattern(count)
        try await withServer(respond: { _ in Response(body: .bytes(body)) }) { server in
            try await server.withClient { client in
                for _ in 0..<2 {
                    let reply = try client.get("/")
                    #expect(reply.headers["Content-Length"] == "\(count)")
                    #expect(isSame(reply.body, body))
                }
                try client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
                #expect(try client.reply(withBody: false).headers["Content-Length"] == "\(count)")
                #expect(isSame(try client.get("/").body, body))
            }
        }
    }

    @Test(
        "Status codes",
        arguments: [
            (200, 200), (204, 204), (304, 304), (404, 404), (999, 999), (0, 500), (101, 500), (1000, 500), (-1, 500),
        ])
    func status(_ asked: Int, _ sent: Int) async throws {
        try await withServer(respond: { _ in .text("body", status: asked) }) { server in
            try await server.withClient { client in
                let reply = try client.get("/")
                #expect(reply.status == sent)
                #expect(reply.text == (sent == 204 || sent == 304 ? "" : "body"))
                #expect(try client.get("/").status == sent)
            }
        }
    }

    @Test func headers() async throws {
        var headers: HTTPHeaders = [
            "X-Evil": "a\r\nX-Injected: b\u{0}c", "Bad Name": "x", "Bad\r\nName": "x", "": "x", "Content-Length": "3",
            "Transfer-Encoding": "gzip", "X-Unicode": "ü", "X-Tab": "a\tb",
        ]
        headers.add(name: "Set-Cookie", value: "a=1")
        headers.add(name: "Set-Cookie", value: "b=2")
        try await withServer(respond: { [headers] _ in .text("hello", headers: headers) }) { server in
            let reply = try await server.withClient { try $0.get("/") }
            #expect(reply.headers["X-Evil"] == "a  X-Injected: b c")
            #expect(reply.headers["X-Injected"] == nil)
            #expect(!reply.headers.contains { $0.name.hasPrefix("Bad") })
            #expect(reply.headers["Content-Length"] == "5")
            #expect(reply.headers["Transfer-Encoding"] == nil)
            #expect(reply.headers["X-Unicode"] == "ü")
            #expect(reply.headers["X-Tab"] == "a\tb")
            #expect(reply.headers.values("Set-Cookie") == ["a=1", "b=2"])
            #expect(reply.text == "hello")
        }
    }

    @Test func closeOnDemand() async throws {
        try await withServer(respond: { _ in .text("bye", headers: ["Connection": "close"]) }) { server in
            try await server.withClient { client in
                let reply = try client.get("/")
                #expect(reply.headers["Connection"] == "close")
                #expect(client.isClosedByServer())
            }
        }
    }

    // MARK: Files

    @Test(
        "Files and ranges of them",
        arguments: [
            nil, 0..<1, 100_000..<2_000_000, 4_999_990..<5_000_000, 4_999_990..<6_000_000, 5_000_000..<5_000_001, 7..<7,
        ])
    func file(_ range: Range<Int64>?) async throws {
        let content = pattern(5_000_000)
        try await withTemporaryFile(content) { path in
            let respond: @Sendable (Request) async -> Response = { _ in
                do {
                    let file = try FileBody(path: path, range: range)
                    #expect(file.size == 5_000_000)
                    return Response(status: range == nil ? 200 : 206, body: .file(file))
                } catch {
                    return .text("\(error)", status: 500)
                }
            }
            try await withServer(respond: respond) { server in
                try await server.withClient { client in
                    let reply = try client.get("/")
                    let expected = range.map { Array(content[Int($0.lowerBound)..<min(Int($0.upperBound), content.count)]) } ?? content
                    #expect(reply.headers["Content-Length"] == "\(expected.count)")
                    #expect(isSame(reply.body, expected))
                    try client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
                    #expect(try client.reply(withBody: false).headers["Content-Length"] == "\(expected.count)")
                    #expect(isSame(try client.get("/").body, expected))
                }
            }
        }
    }

    @Test func fileErrors() async throws {
        try await withTemporaryFile([1, 2, 3]) { path in
            #expect(throws: FileBodyError.notFound(path: path + "-missing")) { try FileBody(path: path + "-missing") }
            #expect(throws: FileBodyError.notFound(path: path + "/below")) { try FileBody(path: path + "/below") }
            #expect(throws: FileBodyError.notAFile(path: "/tmp")) { try FileBody(path: "/tmp") }
            #expect(throws: FileBodyError.outOfRange(size: 3)) { try FileBody(path: path, range: 4..<5) }
            #expect(throws: FileBodyError.outOfRange(size: 3)) { try FileBody(path: path, range: -1..<2) }
            let atTheEnd = try FileBody(path: path, range: 3..<9)
            #expect(atTheEnd.range == 3..<3)
        }
    }

    @Test("Sent files leave no descriptor open")
    func descriptors() async throws {
        try await withTemporaryFile([UInt8](repeating: 1, count: 100_000)) { path in
            let respond: @Sendable (Request) async -> Response = { _ in
                guard let file = try? FileBody(path: path) else { return .text("", status: 500) }
                return Response(body: .file(file))
            }
            try await withServer(respond: respond) { server in
                let links = try await server.withClient { client in
                    for _ in 0..<50 { _ = try client.get("/") }
                    return try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd")
                        .compactMap { try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\($0)") }
                }
                // The last response may still be on its way to being freed.
                #expect(links.filter { $0 == path }.count <= 2)
            }
        }
    }

    // MARK: Streams

    @Test("A stream without length is chunked, and the connection goes on")
    func chunked() async throws {
        let respond: @Sendable (Request) async -> Response = { _ in
            let large = [UInt8](repeating: 7, count: 100_000)
            let chunks: [BodyChunk] = [.bytes([1, 2]), .bytes([]), .bytes([3]), .bytes(large), .finished]
            return Response(body: .stream(ManualSource(chunks), length: nil))
        }
        try await withServer(respond: respond) { server in
            try await server.withClient { client in
                for _ in 0..<3 {
                    let reply = try client.get("/")
                    #expect(reply.headers["Transfer-Encoding"] == "chunked")
                    #expect(reply.isWhole)
                    #expect(reply.body == [1, 2, 3] + [UInt8](repeating: 7, count: 100_000))
                }
            }
        }
    }

    @Test("A stream with a length", arguments: [0, 5, 100_000])
    func lengthKnown(_ length: Int) async throws {
        let body = pattern(length)
        let respond: @Sendable (Request) async -> Response = { _ in
            // What is beyond the length is not sent.
            let source = ManualSource([.bytes(Array(body.prefix(3))), .bytes(Array(body.dropFirst(3))), .bytes([99]), .finished])
            return Response(body: .stream(source, length: length))
        }
        try await withServer(respond: respond) { server in
            try await server.withClient { client in
                for _ in 0..<2 {
                    let reply = try client.get("/")
                    #expect(reply.headers["Content-Length"] == "\(length)")
                    #expect(reply.body == body)
                }
            }
        }
    }

    @Test(
        "A stream that fails or ends early is cut",
        arguments: [
            ([BodyChunk.bytes([1, 2]), .failed], nil), ([.bytes([1, 2]), .failed], 10), ([.bytes([1, 2]), .finished], 10), ([.failed], nil),
        ] as [([BodyChunk], Int?)])
    func cut(_ chunks: [BodyChunk], _ length: Int?) async throws {
        let source = ManualSource(chunks)
        try await withServer(respond: { _ in Response(body: .stream(source, length: length)) }) { server in
            try await server.withClient { client in
                let reply = try client.get("/")
                #expect(reply.status == 200)
                #expect(!reply.isWhole)
                #expect(reply.body == (chunks.count == 2 ? [1, 2] : []))
                #expect(client.isClosedByServer())
            }
            #expect(try await source.closedSignal.next() == .disconnected)
        }
    }

    @Test("A stream to an HTTP/1.0 client ends with the connection")
    func oldClient() async throws {
        let source = ManualSource([.bytes([1, 2])])
        try await withServer(respond: { _ in Response(body: .stream(source, length: nil)) }) { server in
            let reply = try await server.withClient { client in
                try client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
                let (status, headers) = try client.head()
                #expect(status == 200)
                #expect(headers["Transfer-Encoding"] == nil)
                source.push(.bytes([3]), .finished)
                return try client.rest()
            }
            #expect(reply == [1, 2, 3])
            #expect(try await source.closedSignal.next() == .completed)
        }
    }

    @Test("A stream that is not needed is closed without being read", arguments: [("HEAD", 200), ("GET", 204), ("GET", 304)], [nil, 12_345])
    func notNeeded(_ request: (method: String, status: Int), _ length: Int?) async throws {
        let source = ManualSource()
        let respond: @Sendable (Request) async -> Response = {
            $0.path == "/" ? Response(status: request.status, body: .stream(source, length: length)) : .text("next")
        }
        try await withServer(respond: respond) { server in
            try await server.withClient { client in
                try client.send("\(request.method) / HTTP/1.1\r\nHost: a\r\n\r\n")
                let reply = try client.reply(withBody: false)
                #expect(reply.status == request.status)
                if request.method == "HEAD" { #expect(reply.headers["Content-Length"] == length.map { "\($0)" }) }
                if reply.headers["Connection"] == "close" {
                    #expect(client.isClosedByServer())  // and nothing came before
                } else {
                    #expect(try client.get("/next").text == "next")
                }
            }
            #expect(try await source.closedSignal.next() == .completed)
            #expect(source.timesAsked == 0)
        }
    }

    private func withTemporaryFile(_ content: [UInt8], _ body: (String) async throws -> Void) async throws {
        let path = FileManager.default.temporaryDirectory.appending(path: "microhttp-\(UUID())").path()
        try Data(content).write(to: URL(filePath: path))
        defer { try? FileManager.default.removeItem(atPath: path) }
        try await body(path)
    }
}
