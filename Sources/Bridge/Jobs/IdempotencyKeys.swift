import DequeModule
import Synchronization

/// What became of each `Idempotency-Key` of one operation. A key lives 24 hours, as the Comfy API v2 says.
final class IdempotencyKeys: Sendable {
    enum Claim: Sendable {
        /// The key is new and now the caller's: `settle` or `release` it.
        case granted
        /// The key made this job (nil where keys make something else), from the same body or from another.
        case used(JobID?, sameBody: Bool)
        /// Another request with the key is just being accepted.
        case busy
    }

    private struct Entry {
        let digest: [UInt8]
        let since: ContinuousClock.Instant
        var isSettled = false
        var job: JobID?
    }

    /// Keys kept at the most; the oldest go first.
    private static let limit = 100_000
    private static let lifetime = Duration.seconds(24 * 60 * 60)

    private let state = Mutex<(entries: [String: Entry], order: Deque<String>)>(([:], []))

    func claim(_ key: String, digest: [UInt8]) -> Claim {
        state.withLock { state in
            while let oldest = state.order.first, state.order.count >= Self.limit || state.entries[oldest].map({ .now - $0.since > Self.lifetime }) ?? true {
                state.order.removeFirst()
                state.entries[oldest] = nil
            }
            if let entry = state.entries[key] {
                return entry.isSettled ? .used(entry.job, sameBody: entry.digest == digest) : .busy
            }
            state.entries[key] = Entry(digest: digest, since: .now)
            state.order.append(key)
            return .granted
        }
    }

    func settle(_ key: String, job: JobID? = nil) {
        state.withLock { state in
            state.entries[key]?.isSettled = true
            state.entries[key]?.job = job
        }
    }

    /// The request did not make a job: the key may be used again.
    func release(_ key: String) {
        state.withLock { state in
            state.entries[key] = nil
            state.order.removeAll { $0 == key }
        }
    }
}
