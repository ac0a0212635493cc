import AsyncHTTPClient
import Logging
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import NIOWebSocket
import OrderedCollections
import OrderedJSON
import Synchronization
import Testing

@testable import ComfyUI

@Suite(.timeLimit(.minutes(2))) struct NetworkWordsTests {
    @Test(
        "Errors of libraries, in words",
        arguments: [
            (IOError(errnoCode: 98, reason: "bind(descriptor:ptr:bytes:)"), "address already in use"), (ChannelError.connectTimeout(.seconds(1)), "no connection within the time limit"),
            (ChannelError.ioOnClosedChannel, "the connection was closed"), (HTTPClientError.remoteConnectionClosed, "the connection was closed"),
            (HTTPClientError.deadlineExceeded, "no answer in time"), (HTTPParserError.invalidConstant, "it does not speak HTTP there (is it https?)"),
            (NIOWebSocketError.fragmentedControlFrame, "a control frame came in pieces"), (CancellationError(), "it was given up"), (EventLoopError.shutdown, "the process is about to end"),
            (NIOSSLExtraError.failedToValidateHostname, "its TLS certificate is for another host name (use the name that it has, or --comfyui-insecure)"),
            (NIOSSLError.handshakeFailed(.sslError([.eofDuringHandshake])), "it closed the connection during the TLS handshake"),
            (ComfyUIError.timedOut, "ComfyUI did not answer in time"),
        ] as [(any Error, String)])
    func words(_ error: any Error, _ expected: String) {
        #expect(NetworkWords.of(error) == expected)
    }

    @Test(
        "Pages for people become a line",
        arguments: [
            (
                "<html>\r\n<head><title>401 Authorization Required</title></head>\r\n<body>\r\n<center><h1>401 Authorization Required</h1></center>\r\n<hr><center>nginx/1.26.3</center>\r\n</body>\r\n</html>",
                "401 Authorization Required nginx/1.26.3"
            ),
            (
                "<!DOCTYPE html><html><head><title>Sign in</title><style>body { color: red }</style><script>var a = '<b>';</script></head><body><p>Please&nbsp;sign in &amp; wait</p></body></html>",
                "Sign in Please sign in & wait"
            ),
            ("<h1>Bad</h1><p>Gateway</p>", "Bad Gateway"), ("<p>cut off <a href=\"htt", "cut off"), ("<style>cut off", ""), ("<!-- x --><b>a</b>", "a"),
            ("plain text\n\nof a server", "plain text of a server"), ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"), (#"{"error": "a <b"}"#, #"{"error": "a"#), ("", ""),
            (String(repeating: "x", count: 300), String(repeating: "x", count: 200) + "…"),
        ])
    func pages(_ page: String, _ expected: String) { #expect(PageText.words(page) == expected) }

    @Test("A server that wants to know who asks", arguments: [401, 403, 407])
    func refusal(_ status: Int) async throws {
        let page = "<html><head><title>\(status) No</title></head><body><h1>\(status) No</h1><hr>nginx</body></html>"
        let expected =
            "ComfyUI, or a proxy before it, refuses the bridge with status \(status) (\(status) No nginx); "
            + "give its credentials with --comfyui-header or --comfyui-header-file, or as user:password@ in --comfyui"
        try await FakeHTTPServer.with(respond: { _ in .answer(status, page, contentType: "text/html") }) { server in
            try await withComfyUIClient(server.url) { client in
                let error = await #expect(throws: ComfyUIError.self) { try await client.queue() }
                #expect(error?.description == expected)
            }
            try await withEventSocket(server.url) { _, events in
                let reason = try await events.nextDisconnected()
                #expect(reason == expected)
            }
        }
    }

    // MARK: TLS

    /// What a client of REST and the WebSocket say about a server, each in its way.
    private func reasons(_ url: String, _ trust: ComfyTrust) async throws -> [String] {
        var reasons: [String] = []
        try await withComfyUIClient(url, tls: trust.configuration) { client in
            let error = await #expect(throws: ComfyUIError.self) { try await client.queue() }
            if case .unreachable(let reason)? = error { reasons.append(reason) } else { reasons.append("not unreachable: \(error.map(\.description) ?? "")") }
        }
        let box = Mutex("")
        try await withEventSocket(url, { $0.tls = trust.configuration }) { _, events in
            let reason = try await events.nextDisconnected()
            box.withLock { $0 = reason }
        }
        return reasons + [box.withLock { $0 }]
    }

    @Test func aCertificateThatIsNotTrustedIsSaidInWords() async throws {
        let certificate = try TestCertificate()
        let expected =
            "its TLS certificate is not trusted: it is self-signed, or of an authority that is not known here, or has expired "
            + "(name the authority with --comfyui-ca, or use --comfyui-insecure)"
        try await FakeHTTPServer.with(tls: try certificate.serverContext(), respond: { _ in .answer(200, "{}") }) { server in
            let bySystem = try await reasons("https://localhost:\(server.port)", .system)
            let byOther = try await reasons("https://127.0.0.1:\(server.port)", .authorities([try TestCertificate().certificate]))
            #expect(bySystem == [expected, expected] && byOther == [expected, expected])
        }
    }

    @Test func aCertificateOfAnotherNameIsSaidInWords() async throws {
        let certificate = try TestCertificate(names: ["elsewhere.example"], addresses: [])
        let expected = "its TLS certificate is for another host name (use the name that it has, or --comfyui-insecure)"
        try await FakeHTTPServer.with(tls: try certificate.serverContext(), respond: { _ in .answer(200, "{}") }) { server in
            let found = try await reasons("https://localhost:\(server.port)", .authorities([certificate.certificate]))
            #expect(found == [expected, expected])
        }
    }

    @Test func aServerWithoutTLSIsSaidInWords() async throws {
        try await FakeHTTPServer.with(respond: { _ in .answer(200, "{}") }) { server in
            let reasons = try await reasons("https://localhost:\(server.port)", .system)
            // It may also hang up before it has said anything.
            let possible = ["it does not speak TLS there (is it http?)", "it closed the connection during the TLS handshake"]
            for reason in reasons { #expect(possible.contains(reason), "\(reason)") }
        }
    }

    @Test("A file of authorities, or none, makes it work", arguments: ["localhost", "127.0.0.1"])
    func trusted(_ host: String) async throws {
        let certificate = try TestCertificate()
        for trust in [try ComfyTrust(pem: Array(certificate.pem.utf8)), .anybody] {
            try await FakeHTTPServer.with(tls: try certificate.serverContext(), respond: { _ in .answer(200, #"{"a": 1}"#) }) { server in
                try await withComfyUIClient("https://\(host):\(server.port)", tls: trust.configuration) { client in
                    let answer = try await client.systemStats()
                    #expect(answer["a"]?.int == 1)
                }
            }
            var options = FakeSocketServer.Options()
            options.tls = try certificate.serverContext()
            try await FakeSocketServer.with(options) { server in
                try await withEventSocket("https://\(host):\(server.port)", { $0.tls = trust.configuration }) { _, events in
                    let sid = try await events.nextConnected()
                    #expect(sid == "me")
                }
            }
        }
        #expect(throws: ComfyTrustError.self) { try ComfyTrust(pem: Array("none".utf8)) }
        #expect(throws: ComfyTrustError.self) { try ComfyTrust(pem: []) }
    }

    // MARK: Headers

    private static func check(_ found: HTTPHeaders) {
        #expect(found["X-API-Key"] == ["key-marker-77"])
        #expect(found["User-Agent"] == ["me"])
        #expect(found["Authorization"] == ["Bearer t"])
        #expect(found["Host"].count == 1)
    }

    @Test func headersGoWithEveryRequest() async throws {
        let headers = [try ComfyHeader("X-API-Key: key-marker-77"), try ComfyHeader("user-agent: me"), try ComfyHeader("Authorization: Bearer t")]
        try await FakeHTTPServer.with(respond: { request in
            .answer(200, request.method == "GET" ? "{}" : request.method == "HEAD" ? "" : #"{"name": "a", "prompt_id": "x", "number": 1, "node_errors": {}}"#)
        }) { server in
            let endpoint = try ComfyEndpoint("http://u:p@127.0.0.1:\(server.port)").adding(headers)
            #expect(!"\(endpoint) \(endpoint.headers)".contains("marker"))
            let http = HTTPClient(eventLoopGroup: MultiThreadedEventLoopGroup.singleton, configuration: ComfyUIClient.httpClientConfiguration())
            let client = ComfyUIClient(endpoint: endpoint, httpClient: http, logger: .silent)
            _ = try await client.systemStats()
            try await client.deleteQueued(["x"])
            _ = try await client.upload(name: "a", bytes: ByteBuffer(string: "b"))
            let file = FileReference(filename: "a", subfolder: "", type: "output")
            _ = try await client.info(of: file)
            for try await _ in try await client.view(file).body {}
            for _ in 0..<5 { Self.check(try await server.nextRequest().headers) }
            try await http.shutdown()
        }
        try await FakeSocketServer.with { server in
            try await withEventSocket("http://u:p@127.0.0.1:\(server.port)", { $0.endpoint = $0.endpoint.adding(headers) }) { _, events in
                _ = try await events.nextConnected()
                Self.check(try await server.nextConnection().head.headers)
            }
        }
    }
}
