import MicroHTTP
import Synchronization
import Testing

@Suite(.timeLimit(.minutes(5))) struct DisconnectTests {
    @Test("A handler is cancelled soon after its client left", arguments: Leaving.allCases, ["GET", "POST"])
    func parked(_ leaving: Leaving, _ method: String) async throws {
        let started = Signal<Void>()
        let cancelled = Signal<Void>()
        let respond: @Sendable (Request) async -> Response = { request in
            if request.path == "/other" { return .text("fine") }
            await withTaskCancellationHandler {
                started.send()
                await Gate().wait()
            } onCancel: {
                cancelled.send()
            }
            return .text("too late")
        }
        // No time limit of the server ends it.
        let configuration = HTTPServer.Configuration(threads: 2, idleTimeout: .zero, stallTimeout: .zero)
        try await withServer(configuration, respond: respond) { server in
            let leave = Signal<Void>()
            let port = server.port
            try await withThrowingTaskGroup(of: Void.self) { group in
                let client = try await offPool {
                    let client = try Client(port: port)
                    try client.send("\(method) / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")
                    return Handed(client)
                }
                group.addTask {
                    try await leave.next()
                    leaving.perform(client.client)
                }
                try await started.next()
                leave.send()
                try await cancelled.next()
                try await group.waitForAll()
                client.client.close()
            }
            let other = try await server.withClient { try $0.get("/other").text }
            #expect(other == "fine")
        }
    }

    @Test("A client that stays is not taken for one that left, whatever else it sends")
    func pipelining() async throws {
        let started = Signal<Void>()
        let gate = Gate()
        let respond: @Sendable (Request) async -> Response = { request in
            if request.path == "/slow" {
                started.send()
                await gate.wait()
            }
            return .text(Task.isCancelled ? "cancelled" : request.path)
        }
        try await withServer(respond: respond) { server in
            let port = server.port
            let client = try await offPool {
                let client = try Client(port: port)
                try client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
                return Handed(client)
            }
            try await started.next()
            let texts = try await offPool {
                try client.client.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
                gate.open()
                return try [client.client.reply().text, client.client.reply().text]
            }
            #expect(texts == ["/slow", "/next"])
        }
    }

    @Test("The stream in the late answer of a cancelled handler is closed, and not attached")
    func lateStream() async throws {
        let source = ManualSource()
        let started = Signal<Void>()
        let respond: @Sendable (Request) async -> Response = { _ in
            started.send()
            await Gate().wait()  // until cancelled
            return Response(body: .stream(source, length: nil))
        }
        try await withServer(respond: respond) { server in
            let port = server.port
            let client = try await offPool {
                let client = try Client(port: port)
                try client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                return Handed(client)
            }
            try await started.next()
            client.client.close()
            #expect(try await source.closedSignal.next() == .disconnected)
            #expect(source.timesAttached == 0)
        }
    }

    @Test("Clients that come, leave at any moment and come again", .timeLimit(.minutes(5)))
    func churn() async throws {
        let respond: @Sendable (Request) async -> Response = { request in
            switch request.path {
            case "/stream": return Response(body: .stream(ManualSource([.bytes([1]), .pending, .bytes([2])]), length: nil))
            case "/parked":
                await Gate().wait()
                return .text("late")
            default: return .text("hello")
            }
        }
        try await withServer(respond: respond) { server in
            let port = server.port
            try await withThrowingTaskGroup(of: Void.self) { group in
                for thread in 0..<6 {
                    group.addTask {
                        try await offPool {
                            for round in 0..<150 {
                                let client = try Client(port: port)
                                let path = ["/", "/stream", "/parked"][(round + thread) % 3]
                                try client.send("GET \(path) HTTP/1.1\r\nHost: a\r\n\r\n")
                                if path != "/parked", round % 2 == 0 { _ = try client.head() }
                                if round % 5 == 0 { client.reset() } else { client.close() }
                            }
                        }
                    }
                }
                try await group.waitForAll()
            }
            let text = try await server.withClient { try $0.get("/").text }
            #expect(text == "hello")
        }
    }
}

/// A client handed from thread to thread, one at a time.
struct Handed: @unchecked Sendable {
    let client: Client

    init(_ client: Client) {
        self.client = client
    }
}
