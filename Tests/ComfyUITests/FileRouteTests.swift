import ComfyUI
import NIOCore
import NIOHTTP1
import OrderedJSON
import Synchronization
import Testing

@Suite(.timeLimit(.minutes(5))) struct FileRouteTests {
    static let file = FileReference(filename: "a b&c.png", subfolder: "x/y", type: "temp")
    static let headers = [
        ("Content-Type", "image/png"), ("ETag", "\"1-2\""), ("Last-Modified", "Mon, 23 Nov 2026 23:38:52 GMT"), ("Accept-Ranges", "bytes"),
    ]

    private static func read(_ download: FileDownload) async throws -> ByteBuffer {
        var all = ByteBuffer()
        for try await var piece in download.body { all.writeBuffer(&piece) }
        return all
    }

    @Test func filesComeWithTheirHead() async throws {
        let bytes = (0..<300_000).map { UInt8(truncatingIfNeeded: $0) }
        try await FakeHTTPServer.withClient(respond: { _ in .bytes(200, bytes, headers: Self.headers) }) { client, server in
            let download = try await client.view(Self.file)
            #expect(download.status == 200 && download.contentType == "image/png" && download.contentLength == 300_000)
            #expect(download.etag == "\"1-2\"" && download.lastModified == "Mon, 23 Nov 2026 23:38:52 GMT" && download.contentRange == nil)
            #expect(try await Self.read(download) == ByteBuffer(bytes: bytes))
            let request = try await server.nextRequest()
            #expect(request.uri == "/view?filename=a%20b%26c.png&subfolder=x%2Fy&type=temp")
            #expect(request.headers["Accept-Encoding"] == ["identity"])
            #expect(!request.headers.contains(name: "Range"))
        }
    }

    @Test(arguments: [(206, "bytes 0-1/10"), (416, "bytes */10"), (304, nil)] as [(Int, String?)])
    func conditionsAndRangesPassThrough(_ status: Int, contentRange: String?) async throws {
        let headers = Self.headers + (contentRange.map { [("Content-Range", $0)] } ?? [])
        try await FakeHTTPServer.withClient(respond: { _ in .bytes(status, [1, 2], headers: headers) }) { client, server in
            let download = try await client.view(
                Self.file, range: "bytes=0-1", ifRange: "\"1-2\"", ifNoneMatch: "\"x\"", ifModifiedSince: "Mon, 23 Nov 2026 23:38:52 GMT")
            #expect(download.status == status && download.contentRange == contentRange && download.etag == "\"1-2\"")
            #expect(try await Self.read(download).readableBytes == (status == 304 ? 0 : 2))
            let headers = try await server.nextRequest().headers
            #expect(headers["Range"] == ["bytes=0-1"] && headers["If-Range"] == ["\"1-2\""] && headers["If-None-Match"] == ["\"x\""])
            #expect(headers["If-Modified-Since"] == ["Mon, 23 Nov 2026 23:38:52 GMT"])
        }
    }

    @Test(arguments: [
        (404, ComfyUIError.notFound), (400, .badAnswer(status: 400, bodyStart: "no")), (403, .badAnswer(status: 403, bodyStart: "no")),
        (500, .badAnswer(status: 500, bodyStart: "no")),
    ])
    func refusalsAreErrors(_ status: Int, expected: ComfyUIError) async throws {
        try await FakeHTTPServer.withClient(respond: { _ in .answer(status, "no", contentType: "text/plain") }) { client, _ in
            let error = await #expect(throws: ComfyUIError.self) { try await client.view(Self.file) }
            #expect(error == expected)
        }
    }

    @Test func aBodyThatStallsTimesOut() async throws {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"
        try await FakeHTTPServer.withClient(requestTimeout: .seconds(3), respond: { _ in .stall(head) }) { client, server in
            let download = try await client.view(Self.file)
            let received = Mutex(ByteBuffer())
            let error = await #expect(throws: ComfyUIError.self) {
                try await download.body.forEach { piece in _ = received.withLock { $0.writeImmutableBuffer(piece) } }
            }
            #expect(error == .timedOut)
            #expect(received.withLock { $0 } == ByteBuffer(string: "half"))
            try await server.nextClose()
        }
    }

    /// What the reader throws is its own, and ends the download.
    @Test func aReaderMayStopADownload() async throws {
        struct Enough: Error {}
        try await FakeHTTPServer.withClient(respond: { _ in .endless(status: 200) }) { client, server in
            let download = try await client.view(Self.file)
            await #expect(throws: Enough.self) { try await download.body.forEach { _ in throw Enough() } }
            try await server.nextClose()
        }
    }

    @Test func aBodyThatIsCutIsNotWhole() async throws {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"
        try await FakeHTTPServer.withClient(respond: { _ in .raw(head) }) { client, _ in
            let download = try await client.view(Self.file)
            let error = await #expect(throws: ComfyUIError.self) { try await Self.read(download) }
            guard case .connectionLost = error else {
                Issue.record("\(String(describing: error))")
                return
            }
        }
    }

    /// What nobody reads is not fetched, and leaving early closes the connection.
    @Test func downloadsAreStreamed() async throws {
        try await FakeHTTPServer.withClient(respond: { _ in .endless(status: 200) }) { client, server in
            try await {
                let download = try await client.view(Self.file)
                var total = 0
                for try await piece in download.body {
                    total += piece.readableBytes
                    if total > 1 << 20 { break }
                }
                #expect(total < 4 << 20)
            }()
            try await server.nextClose()
        }
    }

    @Test func headTellsAboutAFile() async throws {
        try await FakeHTTPServer.withClient(respond: { request in
            request.uri.contains("gone") ? .answer(404, "", contentType: nil) : .bytes(200, [1, 2, 3], headers: Self.headers)
        }) { client, server in
            let info = try await client.info(of: Self.file)
            #expect(info == FileInfo(size: 3, contentType: "image/png", etag: "\"1-2\"", lastModified: "Mon, 23 Nov 2026 23:38:52 GMT"))
            #expect(try await server.nextRequest().method == "HEAD")
            #expect(try await client.info(of: FileReference(filename: "gone.png")) == nil)
        }
    }

    @Test func uploadsAreMultipart() async throws {
        let answer = #"{"name": "x (1).png", "subfolder": "a/b", "type": "input"}"#
        try await FakeHTTPServer.withClient(respond: { _ in .answer(200, answer) }) { client, server in
            let file = try await client.upload(name: "x\".png", bytes: ByteBuffer(string: "pixels"), subfolder: "a/b", overwrite: true)
            #expect(file.reference == FileReference(filename: "x (1).png", subfolder: "a/b", type: "input"))
            #expect(file.inputValue == "a/b/x (1).png")
            let request = try await server.nextRequest()
            let type = try #require(request.headers.first(name: "Content-Type"))
            let boundary = try #require(type.split(separator: "=").last)
            #expect(type.hasPrefix("multipart/form-data; boundary="))
            #expect(request.headers["Content-Length"] == ["\(request.body.readableBytes)"])
            let lines = [
                "--\(boundary)", "Content-Disposition: form-data; name=\"type\"", "", "input",
                "--\(boundary)", "Content-Disposition: form-data; name=\"subfolder\"", "", "a/b",
                "--\(boundary)", "Content-Disposition: form-data; name=\"overwrite\"", "", "true",
                "--\(boundary)", "Content-Disposition: form-data; name=\"image\"; filename=\"x%22.png\"", "Content-Type: application/octet-stream", "",
                "pixels", "--\(boundary)--", "",
            ]
            #expect(String(buffer: request.body) == lines.joined(separator: "\r\n"))
        }
    }

    @Test func largeUploadsArrive() async throws {
        let size = 20 << 20
        try await FakeHTTPServer.withClient(respond: { _ in .answer(200, #"{"name": "x.bin", "type": "temp"}"#) }) { client, server in
            let file = try await client.upload(name: "x.bin", bytes: ByteBuffer(repeating: 7, count: size), type: "temp")
            #expect(file.inputValue == "x.bin [temp]")
            let body = try await server.nextRequest().body
            let parts = try #require(body.readableBytesView.firstRange(of: Array("octet-stream\r\n\r\n".utf8)))
            #expect(body.getSlice(at: parts.upperBound, length: size) == ByteBuffer(repeating: 7, count: size))
        }
    }

    @Test(arguments: [
        (400, "", ComfyUIError.badAnswer(status: 400, bodyStart: "")),
        (413, "Maximum request body size 5 exceeded.", .tooLarge(limit: 5)),
        (200, "{}", .badAnswer(status: 200, bodyStart: "{}")),
    ])
    func refusedUploads(_ status: Int, body: String, expected: ComfyUIError) async throws {
        try await FakeHTTPServer.withClient(respond: { _ in .answer(status, body) }) { client, _ in
            let error = await #expect(throws: ComfyUIError.self) { try await client.upload(name: "x", bytes: ByteBuffer(string: "y")) }
            #expect(error == expected)
        }
    }

    /// A server says no before it has read the whole body.
    @Test func refusalsInTheMiddleOfAnUpload() async throws {
        let refusal = FakeHTTPServer.Reply.answer(413, "Maximum request body size 5 exceeded.", contentType: "text/plain")
        try await FakeHTTPServer.with(early: { _ in refusal }, respond: { _ in .answer(500) }) { server in
            try await withComfyUIClient(server.url) { client in
                let bytes = ByteBuffer(repeating: 7, count: 20 << 20)
                let upload = await #expect(throws: ComfyUIError.self) { try await client.upload(name: "x", bytes: bytes) }
                #expect(upload == .tooLarge(limit: 5))
                let large = PromptSubmission(promptID: "p", clientID: "c", graph: ["text": .string(String(repeating: "x", count: 20 << 20))])
                let prompt = await #expect(throws: ComfyUIError.self) { try await client.submit(large) }
                #expect(prompt == .tooLarge(limit: 5))
            }
        }
    }

    @Test func uploadsThatNobodyAnswersTimeOut() async throws {
        try await FakeHTTPServer.withClient(requestTimeout: .milliseconds(200), respond: { _ in .stall("") }) { client, _ in
            let error = await #expect(throws: ComfyUIError.self) { try await client.upload(name: "x", bytes: ByteBuffer(string: "y")) }
            #expect(error == .timedOut)
        }
    }

    /// The limit is for silence, not for the whole: a slow source takes longer.
    @Test func slowSourcesAreWaitedFor() async throws {
        struct SlowPieces: AsyncSequence, Sendable {
            struct AsyncIterator: AsyncIteratorProtocol {
                var left = 11
                mutating func next() async throws -> ByteBuffer? {
                    guard left > 0 else { return nil }
                    left -= 1
                    try await Task.sleep(for: .milliseconds(500))  // the source's slowness, not a wait for something
                    return ByteBuffer(string: "piece")
                }
            }
            func makeAsyncIterator() -> AsyncIterator { AsyncIterator() }
        }
        let answer = FakeHTTPServer.Reply.answer(200, #"{"name": "x"}"#)
        try await FakeHTTPServer.withClient(requestTimeout: .seconds(5), respond: { _ in answer }) { client, _ in
            _ = try await client.upload(name: "x", content: SlowPieces(), length: 55)
        }
    }

    @Test(
        arguments: [
            (#"{"filename": "a.png", "subfolder": "s", "type": "temp"}"#, FileReference(filename: "a.png", subfolder: "s", type: "temp")),
            (#"{"filename": "a.mp4"}"#, FileReference(filename: "a.mp4", subfolder: "", type: "output")),
            (#"{"filename": ""}"#, nil), (#"{"subfolder": "s"}"#, nil), (#""a.png""#, nil), ("null", nil), ("[true]", nil),
        ] as [(String, FileReference?)])
    func referencesInOutputs(_ text: String, expected: FileReference?) throws {
        #expect(FileReference(try JSON(parsing: text)) == expected)
    }
}
