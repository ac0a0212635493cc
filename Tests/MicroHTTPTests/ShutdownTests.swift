import Foundation
import Logging
import MicroHTTP
import ServiceLifecycle
import Synchronization
import Testing

@Suite(.timeLimit(.minutes(5)), .serialized) struct ShutdownTests {
    @Test("A graceful stop with 1000 open streams drains and ends every one of them")
    func manyStreams() async throws {
        let count = 1000
        let sources = Mutex<[ManualSource]>([])
        let respond: @Sendable (Request) async -> Response = { _ in
            let source = ManualSource([.bytes([1])], onDrain: [.bytes([2]), .finished])
            sources.withLock { $0.append(source) }
            return Response(body: .stream(source, length: nil))
        }
        let bodies = try await withServer(.init(threads: 2, drainTimeout: .seconds(30)), respond: respond) { server in
            let port = server.port
            let clients = try await offPool {
                try (0..<count).map { _ in
                    let client = try Client(port: port)
                    try client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                    _ = try client.head()
                    _ = try client.chunk()
                    return Handed(client)
                }
            }
            #expect(server.server.openConnections == count)
            server.stop()
            return try await offPool {
                try clients.map { handed in
                    var body: [UInt8] = []
                    while let chunk = try handed.client.chunk(), !chunk.isEmpty { body += chunk }
                    return body
                }
            }
        }
        // run() has returned.
        #expect(bodies.count == count)
        #expect(bodies.allSatisfy { $0 == [2] })
        for source in sources.withLock({ $0 }) {
            try await source.drainSignal.next()
            #expect(try await source.closedSignal.next() == .completed)
        }
    }

    @Test("Streams that do not end within the drain timeout are cut")
    func endlessStream() async throws {
        let source = ManualSource([.bytes([1])], onDrain: [])
        let isWhole = try await withServer(
            .init(threads: 2, drainTimeout: .milliseconds(100)),
            respond: { _ in
                Response(body: .stream(source, length: nil))
            }
        ) { server in
            try await server.withClient { client in
                try client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                _ = try client.head()
                _ = try client.chunk()
                server.stop()
                return try client.chunk() != nil
            }
        }
        #expect(!isWhole)
        try await source.drainSignal.next()
        #expect(try await source.closedSignal.next() == .stopped)
    }

    @Test("Handlers that need longer than the drain timeout are cancelled, their clients hear why")
    func parkedHandlers() async throws {
        let count = 50
        let started = Signal<Void>()
        let cancelled = Atomic(0)
        let respond: @Sendable (Request) async -> Response = { _ in
            started.send()
            await Gate().wait()
            cancelled.add(1, ordering: .relaxed)
            return .text("too late")
        }
        let replies = try await withServer(.init(threads: 2, drainTimeout: .milliseconds(200)), respond: respond) { server in
            let port = server.port
            let clients = try await offPool {
                try (0..<count).map { _ in
                    let client = try Client(port: port)
                    try client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                    return Handed(client)
                }
            }
            for _ in 0..<count { try await started.next() }
            server.stop()
            return try await offPool { try clients.map { try $0.client.reply() } }
        }
        #expect(replies.allSatisfy { $0.status == 503 && $0.text == "shutting down" && $0.headers["Connection"] == "close" })
        #expect(cancelled.load(ordering: .relaxed) == count)
    }

    @Test("A handler that finishes within the drain timeout is heard, and new clients are answered until then")
    func inProgress() async throws {
        let started = Signal<Void>()
        let gate = Gate()
        let respond: @Sendable (Request) async -> Response = { request in
            if request.path == "/slow" {
                started.send()
                await gate.wait()
            }
            return .text(Task.isCancelled ? "cancelled" : "done")
        }
        try await withServer(.init(threads: 2, drainTimeout: .seconds(30)), respond: respond) { server in
            let port = server.port
            let (slow, idle) = try await offPool {
                let slow = try Client(port: port)
                try slow.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
                let idle = try Client(port: port)
                _ = try idle.get("/")
                return (Handed(slow), Handed(idle))
            }
            try await started.next()
            server.stop()
            try await offPool {
                let last = try idle.client.get("/")
                #expect(last.text == "done")
                // The server hears of it on a thread of its own: the first connection that it closes is the event to wait for.
                while case let reply = try Client(port: port).get("/"), reply.headers["Connection"] != "close" {}
                for _ in 0..<20 { #expect(try Client(port: port).get("/").text == "done") }
                let never = try Client(port: port)  // sends nothing, and holds up nobody
                gate.open()
                #expect(try slow.client.reply().text == "done")
                while let client = try? Client(port: port) { client.close() }
                #expect(never.isClosedByServer())
            }
        }
    }

    @Test("As a service in a group")
    func serviceGroup() async throws {
        let server = HTTPServer(configuration: .init(threads: 2), logger: quiet, failure: render) { _ in .text("hello") }
        let port = try server.start()
        let group = ServiceGroup(services: [server], logger: quiet)
        let running = Task { try await group.run() }
        let text = try await offPool { try Client(port: port).get("/").text }
        #expect(text == "hello")
        await group.triggerGracefulShutdown()
        try await running.value
        #expect(server.openConnections == 0)
        await #expect(throws: Client.Failure.self) { try await offPool { _ = try Client(port: port) } }
    }

    @Test("Cancelling run() stops at once")
    func cancellation() async throws {
        let started = Signal<Void>()
        let server = HTTPServer(configuration: .init(threads: 2), logger: quiet, failure: render) { _ in
            started.send()
            await Gate().wait()
            return .text("late")
        }
        let port = try server.start()
        let running = Task { try await server.run() }
        let client = try await offPool {
            let client = try Client(port: port)
            try client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            return Handed(client)
        }
        try await started.next()
        running.cancel()
        try await running.value
        let reply = try await offPool { try client.client.reply() }
        // The handler's own answer, if it was quicker than the server's.
        #expect(reply.text == "shutting down" || reply.text == "late")
        await #expect(throws: HTTPServerError.alreadyStopped) { try await server.run() }
        #expect(throws: HTTPServerError.alreadyStopped) { try server.start() }
        #expect(server.openConnections == 0)
    }

    @Test("A server that was started but never run lets go of everything")
    func neverRun() async throws {
        var server: HTTPServer? = HTTPServer(configuration: .init(threads: 2), logger: quiet, failure: render) { _ in .text("never") }
        let port = try #require(try server?.start())
        let client = try await offPool {
            let client = try Client(port: port)
            try client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            return Handed(client)
        }
        server = nil
        try await offPool {
            let answer = (try? client.client.rest()) ?? []
            #expect(answer.isEmpty || String(decoding: answer, as: UTF8.self).contains("shutting down"))
            #expect(throws: Client.Failure.self) { try Client(port: port) }
        }
    }

    @Test("Stopping under load, again and again")
    func underLoad() async throws {
        for _ in 0..<20 {
            let respond: @Sendable (Request) async -> Response = { request in
                request.path == "/stream"
                    ? Response(body: .stream(ManualSource([.bytes([1])]), length: nil)) : .text("hello")
            }
            try await withServer(.init(threads: 2), respond: respond) { server in
                let port = server.port
                let first = Signal<Void>()
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for thread in 0..<4 {
                        group.addTask {
                            try await offPool {
                                // Until the server is gone; every answer before that is one.
                                while let client = try? Client(port: port) {
                                    for _ in 0..<20 {
                                        guard let reply = try? client.get(thread == 0 ? "/stream" : "/") else { break }
                                        #expect(reply.text == "hello" || reply.text == "shutting down" || thread == 0)
                                        first.send()
                                    }
                                }
                            }
                        }
                    }
                    try await first.next()
                    server.stop()
                    try await group.waitForAll()
                }
            }
        }
    }

    private var quiet: Logger {
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        return logger
    }
}
