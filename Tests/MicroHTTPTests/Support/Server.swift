import Glibc
import Logging
import MicroHTTP
import ServiceLifecycleTestKit
import Synchronization
import Testing

/// A server on a port of its own, for the length of `body`; afterwards it is stopped, and the test waits until it is.
func withServer<T: Sendable>(
    _ configuration: HTTPServer.Configuration = .init(threads: 2),
    bodyLimit: Int = 64 * 1024 * 1024,
    uploadLimit: @escaping @Sendable (_ method: String, _ path: String) -> Int? = { _, _ in nil },
    admit: (@Sendable (Request) -> Admission)? = nil,
    failure: @escaping @Sendable (HTTPServerFailure, HTTPHeaders?) -> Response = render,
    respond: @escaping @Sendable (Request) async -> Response,
    _ body: @escaping @Sendable (RunningServer) async throws -> T
) async throws -> T {
    var logger = Logger(label: "test")
    logger.logLevel = .critical
    let changes = Signal<Void>()
    var configuration = configuration
    configuration.onChange = { changes.send() }
    let server = HTTPServer(
        configuration: configuration, logger: logger, failure: failure,
        admit: admit ?? { request in
            .admitted(body: uploadLimit(request.method, request.path).map { .streamed(limit: $0) } ?? .collected(limit: bodyLimit), respond: respond)
        }
    )
    return try await testGracefulShutdown { @Sendable trigger in
        let port = try server.start()
        return try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await server.run() }
            let running = RunningServer(server: server, port: port, changes: changes, stop: { trigger.triggerGracefulShutdown() })
            do {
                let result = try await body(running)
                trigger.triggerGracefulShutdown()
                try await group.waitForAll()
                return result
            } catch {
                group.cancelAll()
                throw error
            }
        }
    }
}

extension HTTPServer {
    /// One that admits everything.
    convenience init(
        configuration: Configuration, logger: Logger, failure: @escaping @Sendable (HTTPServerFailure, HTTPHeaders?) -> Response,
        respond: @escaping @Sendable (Request) async -> Response
    ) {
        self.init(configuration: configuration, logger: logger, failure: failure, admit: { _ in .admitted(body: .collected(limit: 1 << 20), respond: respond) })
    }
}

struct RunningServer: Sendable {
    let server: HTTPServer
    let port: UInt16
    fileprivate let changes: Signal<Void>
    /// Begins a graceful stop.
    let stop: @Sendable () -> Void

    /// Waits until the condition holds of the server: of its connections, of the memory of bodies, of a body that waits for its reader. It is
    /// looked at now, and after every change. One at a time.
    ///
    /// - Parameter what: goes on "waited until …" when the test's time is up.
    func until(_ what: String, sourceLocation: SourceLocation = #_sourceLocation, _ condition: () -> Bool) async throws {
        while !condition() {
            do { try await changes.next() } catch {
                Issue.record("waited until \(what)", sourceLocation: sourceLocation)
                throw error
            }
        }
    }

    func untilNoBodyIsHeld(sourceLocation: SourceLocation = #_sourceLocation) async throws {
        try await until("no body is held", sourceLocation: sourceLocation) { server.bodyMemoryInUse == 0 }
    }

    /// Runs `body` with a fresh connection, off the pool.
    func withClient<T: Sendable>(_ body: @escaping @Sendable (Client) throws -> T) async throws -> T {
        let port = port
        return try await offPool {
            let client = try Client(port: port)
            defer { client.close() }
            return try body(client)
        }
    }
}

func render(_ failure: HTTPServerFailure, _: HTTPHeaders?) -> Response {
    let (status, text) =
        switch failure {
        case .bodyTooLarge(let limit): (413, "too large, at most \(limit)")
        case .bodiesTooLarge(let limit): (503, "all bodies at most \(limit)")
        case .overloaded: (503, "overloaded")
        case .tooManyConnections(let limit): (503, "more than \(limit)")
        case .shuttingDown: (503, "shutting down")
        case .malformed(let why): (400, why)
        case .headTooLarge(let limit): (431, "head too large, at most \(limit)")
        case .requestTimeout: (408, "too slow")
        case .unsupportedVersion: (505, "unsupported version")
        }
    return Response(status: status, headers: ["Content-Type": "text/plain"], body: .bytes(Array(text.utf8)))
}

extension Response {
    static func text(_ text: String, status: Int = 200, headers: HTTPHeaders = [:]) -> Response {
        Response(status: status, headers: headers, body: .bytes(Array(text.utf8)))
    }
}

/// A value that a test waits for.
final class Signal<Value: Sendable>: Sendable {
    private let stream: AsyncStream<Value>
    private let continuation: AsyncStream<Value>.Continuation

    init() {
        (stream, continuation) = AsyncStream.makeStream()
    }

    func send(_ value: Value) {
        continuation.yield(value)
    }

    /// The next value, in the order sent. One waiter at a time.
    func next() async throws -> Value {
        for await value in stream { return value }
        throw CancellationError()
    }
}

extension Signal<Void> {
    func send() { send(()) }
}

/// Holds whoever waits until it is opened, for ever after.
final class Gate: Sendable {
    private let stream: AsyncStream<Void>
    private let continuation: AsyncStream<Void>.Continuation

    init() {
        (stream, continuation) = AsyncStream.makeStream()
    }

    func open() {
        continuation.finish()
    }

    /// Ends early when the task is cancelled.
    func wait() async {
        for await _ in stream {}
    }
}

/// A source moved by hand, which notes what happens to it.
final class ManualSource: BodySource {
    private struct State {
        var wake: (@Sendable () -> Void)?
        var chunks: [BodyChunk] = []
        var attached = 0
        var asked = 0
    }

    private let state = Mutex(State())
    let closedSignal = Signal<BodyEnd>()
    let attachedSignal = Signal<Void>()
    let drainSignal = Signal<Void>()
    private let onDrain: [BodyChunk]

    /// - Parameter onDrain: what to add when the server wants to stop.
    init(_ chunks: [BodyChunk] = [], onDrain: [BodyChunk] = [.finished]) {
        self.onDrain = onDrain
        state.withLock { $0.chunks = chunks }
    }

    func push(_ chunks: BodyChunk...) {
        state.withLock {
            $0.chunks += chunks
            return $0.wake
        }?()
    }

    var timesAsked: Int { state.withLock { $0.asked } }
    var timesAttached: Int { state.withLock { $0.attached } }

    func attach(wake: @escaping @Sendable () -> Void) {
        state.withLock {
            $0.wake = wake
            $0.attached += 1
        }
        attachedSignal.send()
    }

    func next() -> BodyChunk {
        state.withLock {
            $0.asked += 1
            return $0.chunks.isEmpty ? .pending : $0.chunks.removeFirst()
        }
    }

    func drain() {
        drainSignal.send()
        state.withLock {
            $0.chunks += onDrain
            return $0.wake
        }?()
    }

    func closed(_ reason: BodyEnd) {
        closedSignal.send(reason)
    }
}

/// Bytes that tell of their place, made quickly also in a debug build: tests share few threads with the handlers.
func pattern(_ count: Int) -> [UInt8] {
    let block = (0..<65_521).map { UInt8(truncatingIfNeeded: $0 ^ ($0 >> 8)) }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(count)
    while bytes.count + block.count <= count { bytes += block }
    return bytes + block.prefix(count - bytes.count)
}

/// `==` for large arrays, for the same reason.
func isSame(_ left: [UInt8], _ right: [UInt8]) -> Bool {
    guard left.count == right.count else { return false }
    return left.withUnsafeBytes { left in
        right.withUnsafeBytes { $0.isEmpty || memcmp(left.baseAddress!, $0.baseAddress!, $0.count) == 0 }
    }
}
