import Synchronization

package enum BodyPipeError: Error, Equatable {
    /// The response has ended: its client left, or the server stopped. Nobody will read what is written.
    case closed
}

/// A `BodySource` fed by an asynchronous producer at the pace of the reader, for passing a download on.
///
/// The producer ends it with `finish()` or `fail()`; one that forgets leaves the client waiting. A graceful stop lets it go on until
/// the drain timeout. One producer is meant; several may write, in no particular order.
package final class BodyPipe: BodySource {
    /// Bytes that may wait for the reader before `write` suspends; a single larger chunk is still taken whole.
    package let limit: Int
    private let state = Mutex(State())

    package init(limit: Int = 256 * 1024) {
        self.limit = limit
    }

    /// Adds `bytes`. Suspends while more than `limit` bytes wait, so at most `limit` bytes and one chunk are held.
    ///
    /// - Throws: `BodyPipeError.closed` once the reader has gone (also out of the suspension), `CancellationError` when the task is
    ///   cancelled while it waits. The bytes were not taken then.
    package func write(_ bytes: [UInt8]) async throws {
        while true {
            switch state.withLock({ $0.add(bytes, limit: limit) }) {
            case .added(let wake):
                wake?()
                return
            case .full: try await room()
            case .closed: throw BodyPipeError.closed
            }
        }
    }

    /// The body is complete; what was written before is still sent. Further writes throw `closed`.
    package func finish() {
        state.withLock { $0.end(.finished) }?()
    }

    /// Ends the body in an error: after what was written before, the connection is cut, so that the client sees a truncated body.
    package func fail() {
        state.withLock { $0.end(.failed) }?()
    }

    /// Bytes that wait for the reader.
    package var waitingBytes: Int { state.withLock { $0.size } }

    private func room() async throws {
        let id = state.withLock { $0.nextWaiter() }
        defer { state.withLock { $0.forget(id) } }
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { (continuation: Continuation) in
                if let error = state.withLock({ $0.enqueue(id, continuation, limit: limit) }) { continuation.resume(with: error) }
            }
        } onCancel: {
            state.withLock { $0.cancel(id) }?.resume(throwing: CancellationError())
        }
    }

    // MARK: BodySource

    package func attach(wake: @escaping @Sendable () -> Void) {
        state.withLock { $0.wake = wake }
    }

    package func next() -> BodyChunk {
        let (chunk, waiters) = state.withLock { $0.take(limit: limit) }
        for waiter in waiters { waiter.resume() }
        return chunk
    }

    package func drain() {}

    package func closed(_ reason: BodyEnd) {
        for waiter in state.withLock({ $0.close() }) { waiter.resume(throwing: BodyPipeError.closed) }
    }
}

private typealias Continuation = CheckedContinuation<Void, any Error>

private struct State {
    private enum Phase {
        case open
        case ending(BodyChunk)
        case closed
    }

    private enum Waiter {
        case waiting(Continuation)
        case cancelled
    }

    enum Add {
        case added(wake: (@Sendable () -> Void)?)
        case full
        case closed
    }

    var wake: (@Sendable () -> Void)?
    private(set) var size = 0
    private var phase = Phase.open
    private var chunks: [[UInt8]] = []
    private var first = 0
    private var waiters: [Int: Waiter] = [:]
    private var lastWaiter = 0

    mutating func add(_ bytes: [UInt8], limit: Int) -> Add {
        guard case .open = phase else { return .closed }
        guard size <= limit else { return .full }
        guard !bytes.isEmpty else { return .added(wake: nil) }
        chunks.append(bytes)
        size += bytes.count
        return .added(wake: wake)
    }

    mutating func end(_ chunk: BodyChunk) -> (@Sendable () -> Void)? {
        guard case .open = phase else { return nil }
        phase = .ending(chunk)
        return wake
    }

    mutating func take(limit: Int) -> (BodyChunk, [Continuation]) {
        guard first < chunks.count else {
            return if case .ending(let chunk) = phase { (chunk, []) } else { (.pending, []) }
        }
        let bytes = chunks[first]
        chunks[first] = []
        first += 1
        if first == chunks.count || first >= 64 {
            chunks.removeFirst(first)
            first = 0
        }
        size -= bytes.count
        return (.bytes(bytes), size <= limit ? takeWaiters() : [])
    }

    mutating func close() -> [Continuation] {
        phase = .closed
        chunks = []
        first = 0
        size = 0
        wake = nil
        return takeWaiters()
    }

    mutating func nextWaiter() -> Int {
        lastWaiter += 1
        return lastWaiter
    }

    /// What to resume at once instead of waiting, or nil.
    mutating func enqueue(_ id: Int, _ continuation: Continuation, limit: Int) -> Result<Void, any Error>? {
        if waiters[id] != nil { return .failure(CancellationError()) }  // cancelled before it waited
        if case .closed = phase { return .failure(BodyPipeError.closed) }
        guard size > limit else { return .success(()) }
        waiters[id] = .waiting(continuation)
        return nil
    }

    mutating func cancel(_ id: Int) -> Continuation? {
        if case .waiting(let continuation) = waiters.removeValue(forKey: id) { return continuation }
        waiters[id] = .cancelled
        return nil
    }

    mutating func forget(_ id: Int) {
        waiters[id] = nil
    }

    private mutating func takeWaiters() -> [Continuation] {
        let taken = waiters.values.compactMap { if case .waiting(let continuation) = $0 { continuation } else { nil } }
        waiters = waiters.filter { if case .cancelled = $0.value { true } else { false } }
        return taken
    }
}
