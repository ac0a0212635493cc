import Glibc
import Logging
import MicroHTTP
import Testing

@Suite(.timeLimit(.minutes(5))) struct LimitTests {
    @Test("Connections beyond the limit are refused in words", arguments: [1, 2])
    func connectionLimit(threads: Int) async throws {
        try await withServer(.init(threads: threads, connectionLimit: 4), respond: { _ in .text("hello") }) { server in
            let port = server.port
            try await offPool {
                let clients = try (0..<4).map { _ in try Client(port: port) }
                for client in clients { _ = try client.get("/") }
                #expect(server.server.openConnections == 4)
                for method in ["GET", "POST"] {
                    let fifth = try Client(port: port)
                    try fifth.send("\(method) / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde")
                    let refused = try fifth.reply()
                    #expect(refused.status == 503)
                    #expect(refused.text == "more than 4")
                    #expect(refused.headers["Connection"] == "close")
                    #expect(fifth.isClosedByServer())
                }
                for client in clients { #expect(try client.get("/").text == "hello") }
                clients[2].close()
                while case let reply = try Client(port: port).get("/"), reply.status == 503 {}
            }
        }
    }

    @Test("Requests beyond the backlog are answered at once")
    func overload() async throws {
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        let server = HTTPServer(configuration: .init(threads: 2, requestBacklog: 3), logger: logger, failure: render) { _ in .text("hello") }
        let port = try server.start()
        // Nobody takes requests yet.
        let clients = try await offPool {
            let clients = try (0..<8).map { _ in
                let client = try Client(port: port)
                try client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                return client
            }
            var events = clients.map { pollfd(fd: $0.descriptor, events: Int16(POLLIN), revents: 0) }
            repeat { _ = poll(&events, nfds_t(events.count), 30_000) } while events.count(where: { $0.revents != 0 }) < 5
            let refused = try zip(clients, events).filter { $0.1.revents != 0 }.map { try $0.0.reply() }
            #expect(refused.count == 5)
            #expect(refused.allSatisfy { $0.status == 503 && $0.text == "overloaded" })
            return zip(clients, events).filter { $0.1.revents == 0 }.map { Handed($0.0) }
        }
        let running = Task { try await server.run() }
        let texts = try await offPool { try clients.map { try $0.client.reply().text } }
        #expect(texts == ["hello", "hello", "hello"])
        running.cancel()
        try await running.value
    }

    @Test("Idle connections are closed, waiting ones are not")
    func idleTimeout() async throws {
        let source = ManualSource([.bytes([1])])
        let respond: @Sendable (Request) async -> Response = { request in
            switch request.path {
            case "/stream": Response(body: .stream(source, length: nil))
            default: .text("hello")
            }
        }
        try await withServer(.init(threads: 2, idleTimeout: .seconds(1), headTimeout: .seconds(1)), respond: respond) { server in
            try await server.withClient { stream in
                try stream.send("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
                _ = try stream.head()
                #expect(try stream.chunk() == [1])
                let idle = try Client(port: server.port)
                _ = try idle.get("/")
                let half = try Client(port: server.port)
                try half.send("GET / HTTP/1.1\r\nHo")
                let never = try Client(port: server.port)
                #expect(idle.isClosedByServer())
                #expect(try half.reply().status == 408)
                #expect(never.isClosedByServer())
                source.push(.bytes([2]), .finished)
                #expect(try stream.chunk() == [2])
            }
        }
    }

    @Test("A client that does not read its answer is dropped after the stall timeout")
    func stalledReader() async throws {
        let source = ManualSource([.bytes([UInt8](repeating: 1, count: 50_000_000))])
        let respond: @Sendable (Request) async -> Response = { _ in Response(body: .stream(source, length: nil)) }
        try await withServer(.init(threads: 2, stallTimeout: .seconds(1)), respond: respond) { server in
            let port = server.port
            let client = try await offPool {
                let client = try Client(port: port, receiveBuffer: 4096)
                try client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                return Handed(client)
            }
            #expect(try await source.closedSignal.next() == .disconnected)
            client.client.close()
        }
    }

    // MARK: Listening

    @Test("Hosts", arguments: ["127.0.0.1", "localhost", "0.0.0.0", "::1", "::"])
    func hosts(_ host: String) async throws {
        try await withServer(.init(host: host, threads: 1), respond: { .text($0.remoteAddress) }) { server in
            #expect(server.port != 0)
            guard host != "::1" else { return }
            let text = try await server.withClient { try $0.get("/").text }
            #expect(text == "127.0.0.1")
        }
    }

    @Test func portInUse() async throws {
        try await withServer(respond: { _ in .text("") }) { server in
            let second = HTTPServer(
                configuration: .init(port: server.port), logger: Logger(label: "test"), failure: render, respond: { _ in .text("") }
            )
            #expect(throws: HTTPServerError.cannotListen(host: "127.0.0.1", port: server.port, reason: "Address already in use")) {
                try second.start()
            }
            await #expect(throws: HTTPServerError.self) { try await second.run() }
        }
    }

    @Test func unknownHost() {
        let server = HTTPServer(
            configuration: .init(host: "no.such.host.invalid"), logger: Logger(label: "test"), failure: render, respond: { _ in .text("") }
        )
        #expect {
            try server.start()
        } throws: {
            if case HTTPServerError.unknownHost("no.such.host.invalid", _) = $0 { true } else { false }
        }
    }

    @Test func startTwice() async throws {
        try await withServer(respond: { _ in .text("") }) { server in
            let again = try server.server.start()
            #expect(again == server.port)
        }
    }
}
