import DequeModule
import FoundationEssentials
import Synchronization

/// Where used keys are found after a restart.
protocol UsedKeyStore: Sendable {
    func insert(_ key: UsedKey) async throws
    /// What used the key since then.
    func key(_ key: String, _ operation: UsedKey.Operation, since date: Date) async throws -> (digest: [UInt8], job: JobID?)?
    func remove(before date: Date) async throws
}

/// The `Idempotency-Key`s of one operation, and which job each made. A key lives 24 hours, as the Comfy API v2 says.
final class IdempotencyKeys: Sendable {
    enum Claim: Sendable {
        /// The key is new and now the caller's: `settle` or `release` it.
        case granted
        /// The key was used by the same request or by another; the job is nil where the operation makes none.
        case used(JobID?, isSame: Bool)
        /// Another request with the key is just being accepted.
        case busy
    }

    fileprivate struct Entry {
        enum Outcome {
            case open
            case settled(JobID?)
        }

        let number: UInt64
        var digest: [UInt8]
        let since: ContinuousClock.Instant
        var outcome = Outcome.open
    }

    fileprivate struct State {
        var entries: [String: Entry] = [:]
        /// Oldest first. A claim whose number is not its key's any more was released.
        var claims: Deque<(key: String, number: UInt64)> = []
        var lastNumber: UInt64 = 0
        /// Who waits for the outcome of an open claim.
        var waiters: [String: [CheckedContinuation<Void, Never>]] = [:]
    }

    static let lifetime = Duration.seconds(24 * 60 * 60)

    let operation: UsedKey.Operation
    private let store: (any UsedKeyStore)?
    /// Claims remembered at the most; the oldest go first.
    private let limit: Int
    private let state = Mutex(State())

    /// - Parameter store: nil where keys are forgotten with the process.
    init(_ operation: UsedKey.Operation, store: (any UsedKeyStore)?) {
        self.operation = operation
        self.store = store
        limit = store == nil ? 100_000 : 10_000
    }

    /// - Parameter digest: what makes two requests the same.
    func claim(_ key: String, digest: [UInt8], now: ContinuousClock.Instant = .now) async throws -> Claim {
        let claim = state.withLock { $0.claim(key, digest, limit: limit, now: now) }
        guard case .granted = claim, let store else { return claim }
        // Until the answer is there the key is busy.
        do {
            guard let used = try await store.key(key, operation, since: Date(timeIntervalSinceNow: -Self.lifetime.seconds)) else { return .granted }
            release(key)
            return .used(used.job, isSame: used.digest == digest)
        } catch {
            release(key)
            throw error
        }
    }

    /// Returns when the key is not busy (any more), which is soon: requests are accepted, or refused, without waiting for anybody.
    func waitForOutcome(of key: String) async {
        await withCheckedContinuation { continuation in
            let isBusy = state.withLock { state in
                guard case .open = state.entries[key]?.outcome else { return false }
                state.waiters[key, default: []].append(continuation)
                return true
            }
            if !isBusy { continuation.resume() }
        }
    }

    /// The request was carried out: the key is used up. What is written of that for a job was written with the job.
    func settle(_ key: String, job: JobID) {
        change(key) { $0?.outcome = .settled(job) }
    }

    /// The same for an operation that makes no job.
    func settle(_ key: String, digest: [UInt8]) async throws {
        try await store?.insert(UsedKey(operation: operation, key: key, digest: digest))
        change(key) { $0?.outcome = .settled(nil) }
    }

    /// The request was refused: the key may be used again.
    func release(_ key: String) {
        change(key) { $0 = nil }
    }

    private func change(_ key: String, _ body: (inout Entry?) -> Void) {
        let waiters = state.withLock { state in
            body(&state.entries[key])
            return state.waiters.removeValue(forKey: key) ?? []
        }
        for waiter in waiters { waiter.resume() }
    }
}

extension IdempotencyKeys.State {
    fileprivate mutating func claim(_ key: String, _ digest: [UInt8], limit: Int, now: ContinuousClock.Instant) -> IdempotencyKeys.Claim {
        while let oldest = claims.first {
            if let entry = entries[oldest.key], entry.number == oldest.number {
                guard claims.count >= limit || now - entry.since >= IdempotencyKeys.lifetime else { break }
                entries[oldest.key] = nil
            }
            claims.removeFirst()
        }
        switch entries[key]?.outcome {
        case .open: return .busy
        case .settled(let job): return .used(job, isSame: entries[key]?.digest == digest)
        case nil:
            lastNumber += 1
            entries[key] = .init(number: lastNumber, digest: digest, since: now)
            claims.append((key, lastNumber))
            return .granted
        }
    }
}
