import DequeModule
import FoundationEssentials
import OrderedJSON
import Synchronization
import Wording

/// The `Idempotency-Key`s of one operation, and what each made. A key lives 24 hours, as the Comfy API v2 says.
///
/// Whether a key may be used again is the operation's to say: the resource API never lets it, `POST /run` does when the job came to an end
/// that another try may not come to (`Job.Snapshot.releasesKey`). So it is the job that is asked, and only of one that is not kept any more
/// it is noted here.
package final class IdempotencyKeys: Sendable {
    package struct Use: Sendable, Equatable {
        /// The id of the job or asset; nil where it is not known.
        package let made: String?
        /// It is not kept any more, and had released the key.
        package var isReleased = false

        package init(made: String?, isReleased: Bool = false) {
            self.made = made
            self.isReleased = isReleased
        }
    }

    package enum Claim: Sendable {
        /// The key is now the caller's: `settle` or `release` it.
        case granted
        /// The key was used by the same request or by another.
        case used(Use, isSame: Bool)
        /// Another request with the key is just being accepted.
        case busy
    }

    fileprivate struct Entry {
        package enum Outcome {
            case open
            case settled(Use)
        }

        package let number: UInt64
        package var digest: [UInt8]
        package let since: ContinuousClock.Instant
        package var outcome = Outcome.open
    }

    fileprivate struct State {
        package var entries: [Name: Entry] = [:]
        /// Oldest first. A claim whose number is not its key's any more was released.
        var claims: Deque<(key: String, number: UInt64)> = []
        var lastNumber: UInt64 = 0
        /// Who waits for the outcome of an open claim.
        var waiters: [Name: [CheckedContinuation<Void, Never>]] = [:]
    }

    package static let lifetime = Duration.seconds(24 * 60 * 60)

    package let operation: UsedKey.Operation
    private let store: (any UsedKeyStore)?
    /// Claims remembered at the most; the oldest go first.
    private let limit: Int
    private let state = Mutex(State())

    /// - Parameter store: nil where keys are forgotten with the process.
    package init(_ operation: UsedKey.Operation, store: (any UsedKeyStore)?) {
        self.operation = operation
        self.store = store
        limit = store == nil ? 100_000 : 10_000
    }

    /// - Parameters:
    ///   - digest: what makes two requests the same.
    ///   - released: what the key made before and was released by. Of those that claim it with this one is granted it.
    package func claim(_ key: String, digest: [UInt8], replacing released: String? = nil, now: ContinuousClock.Instant = .now) async throws -> Claim {
        let claim = state.withLock { $0.claim(key, digest, replacing: released, limit: limit, now: now) }
        guard case .granted = claim, let store else { return claim }
        // Until the answer is there the key is busy.
        do {
            let used = try await store.key(key, operation, since: Date(timeIntervalSinceNow: -Self.lifetime.seconds))
            guard let used, !used.use.isReplaced(by: released) else { return .granted }
            release(key)
            return .used(used.use, isSame: used.digest == digest)
        } catch {
            release(key)
            throw error
        }
    }

    /// Returns when the key is not busy (any more), which is soon: requests are accepted, or refused, without waiting for anybody.
    package func waitForOutcome(of key: String) async {
        await withCheckedContinuation { continuation in
            let isBusy = state.withLock { state in
                guard case .open = state.entries[key]?.outcome else { return false }
                state.waiters[Name(key), default: []].append(continuation)
                return true
            }
            if !isBusy { continuation.resume() }
        }
    }

    /// The request was carried out: the key is used up. What is written of that for a job was written with the job.
    package func settle(_ key: String, job: JobID) {
        change(key) { $0?.outcome = .settled(Use(made: job.description)) }
    }

    /// The same for an operation that makes no job.
    package func settle(_ key: String, digest: [UInt8], made: String) async throws {
        try await store?.insert(UsedKey(operation: operation, key: key, digest: digest, made: made))
        change(key) { $0?.outcome = .settled(Use(made: made)) }
    }

    /// The request was refused: the key may be used again.
    package func release(_ key: String) {
        change(key) { $0 = nil }
    }

    /// These are not kept any more, and had released their keys. The store knows already.
    package func release(madeBy ids: Set<String>) {
        guard !ids.isEmpty else { return }
        state.withLock { state in
            for (key, entry) in state.entries {
                guard case .settled(let use) = entry.outcome, let made = use.made, ids.contains(made) else { continue }
                state.entries[key]?.outcome = .settled(Use(made: made, isReleased: true))
            }
        }
    }

    private func change(_ key: String, _ body: (inout Entry?) -> Void) {
        let waiters = state.withLock { state in
            body(&state.entries[key])
            return state.waiters.removeValue(forKey: Name(key)) ?? []
        }
        for waiter in waiters { waiter.resume() }
    }
}

extension IdempotencyKeys.Use {
    fileprivate func isReplaced(by released: String?) -> Bool { made != nil && made == released }
}

extension IdempotencyKeys.State {
    fileprivate mutating func claim(
        _ key: String, _ digest: [UInt8], replacing released: String?, limit: Int, now: ContinuousClock.Instant
    ) -> IdempotencyKeys.Claim {
        while let oldest = claims.first {
            if let entry = entries[oldest.key], entry.number == oldest.number {
                guard claims.count >= limit || now - entry.since >= IdempotencyKeys.lifetime else { break }
                entries[oldest.key] = nil
            }
            claims.removeFirst()
        }
        switch entries[key]?.outcome {
        case .open: return .busy
        case .settled(let use) where !use.isReplaced(by: released): return .used(use, isSame: entries[key]?.digest == digest)
        case .settled, nil:
            lastNumber += 1
            entries[key] = .init(number: lastNumber, digest: digest, since: now)
            claims.append((key, lastNumber))
            return .granted
        }
    }
}

extension Job.Snapshot {
    /// The key that made the job may make another one: the job came to no result that a second would come to as well.
    package var releasesKey: Bool {
        switch status {
        case .queued, .running, .canceling, .canceled: cancellation == .callerLeft
        case .failed: error?.code.releasesKey ?? true
        case .succeeded, .expired: false
        }
    }
}

extension JobError.Code {
    /// Another try may end otherwise. What the workflow itself did, in a run that it had, it will do again.
    package var releasesKey: Bool {
        switch self {
        // Of ComfyUI and of the bridge.
        case .upstreamUnreachable, .upstreamLost, .upstreamStuck, .upstreamError, .deviceError, .insufficientStorage, .credentialsLost: true
        // Nothing was run: a node pack, a file or a limit is missing, as when a submission is refused at once.
        case .invalidWorkflow, .missingAsset, .payloadTooLarge: true
        case .nodeExecutionError, .invalidOutput, .outOfMemory, .poison, .timedOut: false
        // See `Job.Snapshot.releasesKey`.
        case .canceled: false
        }
    }
}
