import MicroHTTP
import Synchronization
import Testing

@Suite(.timeLimit(.minutes(5))) struct StreamTests {
    @Test("Chunks arrive as they are pushed, each woken")
    func live() async throws {
        let source = ManualSource()
        try await withServer(respond: { _ in Response(body: .stream(source, length: nil)) }) { server in
            try await server.withClient { client in
                try client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                _ = try client.head()
                for index in UInt8(0)..<100 {
                    source.push(.bytes([index]))
                    let chunk = try client.chunk()
                    #expect(chunk == [index])
                }
                source.push(.finished)
                let last = try client.chunk()
                #expect(last == [])
            }
            #expect(try await source.closedSignal.next() == .completed)
            #expect(source.timesAttached == 1)
        }
    }

    @Test("However the client leaves, the source hears of it soon", arguments: Leaving.allCases)
    func clientGone(_ leaving: Leaving) async throws {
        let source = ManualSource([.bytes([1])])
        // No time limit of the server ends it.
        let configuration = HTTPServer.Configuration(threads: 2, idleTimeout: .zero, stallTimeout: .zero)
        try await withServer(configuration, respond: { _ in Response(body: .stream(source, length: nil)) }) { server in
            try await server.withClient { client in
                try client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                _ = try client.head()
                _ = try client.chunk()
                leaving.perform(client)
            }
            #expect(try await source.closedSignal.next() == .disconnected)
            source.push(.bytes([2]))  // late, without effect
        }
    }

    @Test("A client that leaves in the middle of a large chunk")
    func clientGoneWhileSending() async throws {
        let source = ManualSource([.bytes([UInt8](repeating: 1, count: 50_000_000))])
        try await withServer(respond: { _ in Response(body: .stream(source, length: nil)) }) { server in
            try await offPool {
                let client = try Client(port: server.port, receiveBuffer: 4096)
                try client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                _ = try client.head()
                client.close()
            }
            #expect(try await source.closedSignal.next() == .disconnected)
        }
    }

    @Test("No wake-up is lost: many threads, many streams")
    func wakeRace() async throws {
        let threads = 8
        let perThread = 5000
        let sources = (0..<4).map { _ in CountingSource(expecting: threads * perThread) }
        let respond: @Sendable (Request) async -> Response = { request in
            Response(body: .stream(sources[Int(request.path.dropFirst())!], length: nil))
        }
        try await withServer(respond: respond) { server in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for index in sources.indices {
                    group.addTask {
                        let reply = try await server.withClient { try $0.get("/\(index)") }
                        #expect(reply.isWhole)
                        #expect(reply.body.count == threads * perThread)
                        for thread in 0..<threads {
                            #expect(reply.body.count { $0 == UInt8(thread) } == perThread)
                        }
                    }
                }
                for source in sources {
                    for thread in 0..<threads {
                        group.addTask {
                            try await offPool { for _ in 0..<perThread { source.push(UInt8(thread)) } }
                        }
                    }
                }
                try await group.waitForAll()
            }
        }
    }

    @Test("A wake-up between the decision to wait and the sleep is not lost")
    func wakeInTheGap() async throws {
        let source = GapSource(rounds: 2000)
        try await withServer(respond: { _ in Response(body: .stream(source, length: nil)) }) { server in
            let reply = try await server.withClient { try $0.get("/") }
            #expect(reply.isWhole)
            #expect(reply.body.count == 2000)
        }
    }

    @Test("A piece that fills the socket goes on where it stopped", arguments: [true, false])
    func slowReader(isChunked: Bool) async throws {
        let piece = pattern(20_000_000)
        let source = ManualSource([.bytes(piece), .bytes([7]), .finished])
        try await withServer(respond: { _ in Response(body: .stream(source, length: nil)) }) { server in
            let body = try await offPool {
                let client = try Client(port: server.port, receiveBuffer: 4096)
                guard !isChunked else { return try client.get("/").body }
                try client.send("GET / HTTP/1.0\r\n\r\n")
                _ = try client.head()
                return try client.rest()
            }
            #expect(isSame(body, piece + [7]))
            #expect(try await source.closedSignal.next() == .completed)
        }
    }

    @Test("A viewer that stops reading is given up, others are not")
    func stoppedReader() async throws {
        let sources = [ManualSource([.bytes(pattern(20_000_000))]), ManualSource([.bytes([1])])]
        let respond: @Sendable (Request) async -> Response = { request in
            Response(body: .stream(sources[Int(request.path.dropFirst())!], length: nil))
        }
        try await withServer(.init(threads: 1, stallTimeout: .seconds(1)), respond: respond) { server in
            async let pieces = server.withClient { client in
                try client.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n")
                _ = try client.head()
                return try [client.chunk(), client.chunk()]
            }
            let stopped = try Client(port: server.port, receiveBuffer: 4096)
            defer { stopped.close() }
            try stopped.send("GET /0 HTTP/1.1\r\nHost: a\r\n\r\n")
            let end = try await sources[0].closedSignal.next()
            #expect(end == .disconnected)
            sources[1].push(.bytes([2]))
            let received = try await pieces
            #expect(received == [[1], [2]])
        }
    }

    // MARK: BodyPipe

    @Test func producedAndRead() async throws {
        let respond: @Sendable (Request) async -> Response = { _ in
            let stream = BodyPipe()
            // Few bytes: the writes do not wait for a reader.
            for index in UInt8(0)..<10 { try? await stream.write([index, index]) }
            stream.finish()
            return Response(body: .stream(stream, length: nil))
        }
        try await withServer(respond: respond) { server in
            let reply = try await server.withClient { try $0.get("/") }
            #expect(reply.isWhole)
            #expect(reply.body == (UInt8(0)..<10).flatMap { [$0, $0] })
        }
    }

    @Test("A slow reader slows the producer, and the buffer stays within its limit")
    func backpressure() async throws {
        let stream = BodyPipe(limit: 100_000)
        let chunk = [UInt8](repeating: 5, count: 70_000)
        let count = 400  // 28 MB, more than sockets hold
        try await withServer(respond: { _ in Response(body: .stream(stream, length: chunk.count * count)) }) { server in
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    for _ in 0..<count {
                        try await stream.write(chunk)
                        #expect(stream.waitingBytes <= 100_000 + chunk.count)
                    }
                    stream.finish()
                }
                let received = try await offPool {
                    let client = try Client(port: server.port, receiveBuffer: 4096)
                    return try client.get("/").body.count
                }
                #expect(received == chunk.count * count)
                try await group.waitForAll()
            }
        }
    }

    @Test("The producer learns that its reader has gone", arguments: Leaving.allCases)
    func producerStops(_ leaving: Leaving) async throws {
        let stream = BodyPipe(limit: 1000)
        try await withServer(respond: { _ in Response(body: .stream(stream, length: nil)) }) { server in
            let producer = Task {
                // More than the sockets hold, so only backpressure and the leaving client end this.
                for _ in 0..<10_000 { try await stream.write([UInt8](repeating: 1, count: 10_000)) }
            }
            try await server.withClient { client in
                try client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                _ = try client.head()
                _ = try client.chunk()
                leaving.perform(client)
            }
            await #expect(throws: BodyPipeError.closed) { try await producer.value }
        }
    }

    @Test func writeSuspendsAboveTheLimit() async throws {
        let stream = BodyPipe(limit: 10)
        try await stream.write([UInt8](repeating: 1, count: 11))
        let second = Task { try await stream.write([2]) }
        for _ in 0..<1000 {
            await Task.yield()
            #expect(stream.waitingBytes == 11)
        }
        #expect(stream.next() == .bytes([UInt8](repeating: 1, count: 11)))
        try await second.value
        #expect(stream.next() == .bytes([2]))
        #expect(stream.next() == .pending)
        stream.finish()
        #expect(stream.next() == .finished)
        await #expect(throws: BodyPipeError.closed) { try await stream.write([3]) }
    }

    @Test func cancelledWriter() async throws {
        let stream = BodyPipe(limit: 0)
        try await stream.write([1])
        let writer = Task { try await stream.write([2]) }
        writer.cancel()
        await #expect(throws: CancellationError.self) { try await writer.value }
        #expect(stream.next() == .bytes([1]))
        #expect(stream.next() == .pending)
    }

    @Test func failedProducer() async throws {
        let stream = BodyPipe()
        try await withServer(respond: { _ in Response(body: .stream(stream, length: nil)) }) { server in
            try await stream.write([1, 2, 3])
            stream.fail()
            let reply = try await server.withClient { try $0.get("/") }
            #expect(reply.body == [1, 2, 3])
            #expect(!reply.isWhole)
        }
    }
}

enum Leaving: CaseIterable {
    case close, reset, halfClose

    func perform(_ client: Client) {
        switch self {
        case .close: client.close()
        case .reset: client.reset()
        case .halfClose: client.finishSending()
        }
    }
}

/// One byte for each push, finished after so many.
private final class CountingSource: BodySource {
    private struct State {
        var waiting: [UInt8] = []
        var left: Int
        var wake: (@Sendable () -> Void)?
    }

    private let state: Mutex<State>

    init(expecting count: Int) {
        state = Mutex(State(left: count))
    }

    func push(_ byte: UInt8) {
        state.withLock {
            $0.waiting.append(byte)
            $0.wake?()  // under the lock, as the protocol allows
        }
    }

    func attach(wake: @escaping @Sendable () -> Void) {
        state.withLock { $0.wake = wake }
    }

    func next() -> BodyChunk {
        state.withLock {
            guard !$0.waiting.isEmpty else { return $0.left == 0 ? .finished : .pending }
            let bytes = $0.waiting
            $0.waiting = []
            $0.left -= bytes.count
            return .bytes(bytes)
        }
    }

    func drain() {}
    func closed(_ reason: BodyEnd) {}
}

/// Has nothing, and something as soon as it has said so; nobody wakes the server later.
private final class GapSource: BodySource {
    private struct State {
        var left: Int
        var isReady = false
        var wake: (@Sendable () -> Void)?
    }

    private let state: Mutex<State>

    init(rounds: Int) {
        state = Mutex(State(left: rounds))
    }

    func attach(wake: @escaping @Sendable () -> Void) {
        state.withLock { $0.wake = wake }
    }

    func next() -> BodyChunk {
        state.withLock {
            guard $0.left > 0 else { return .finished }
            $0.isReady.toggle()
            if $0.isReady {
                $0.wake?()
                return .pending
            }
            $0.left -= 1
            return .bytes([1])
        }
    }

    func drain() {}
    func closed(_ reason: BodyEnd) {}
}
