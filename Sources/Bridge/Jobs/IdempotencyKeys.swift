import DequeModule
import Synchronization

/// Which job each `Idempotency-Key` made. A key lives 24 hours, as the Comfy API v2 says.
final class IdempotencyKeys: Sendable {
    enum Claim: Sendable {
        /// The key is new and now the caller's: `settle` or `release` it.
        case granted
        /// The key made this job, from the same body or from another.
        case used(JobID, sameBody: Bool)
        /// Another request with the key is just being accepted.
        case busy
    }

    private struct Entry {
        let digest: [UInt8]
        let since: ContinuousClock.Instant
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
                guard let job = entry.job else { return .busy }
                return .used(job, sameBody: entry.digest == digest)
            }
            state.entries[key] = Entry(digest: digest, since: .now)
            state.order.append(key)
            return .granted
        }
    }

    func settle(_ key: String, job: JobID) {
        state.withLock { $0.entries[key]?.job = job }
    }

    /// The request did not make a job: the key may be used again.
    func release(_ key: String) {
        state.withLock { state in
            state.entries[key] = nil
            state.order.removeAll { $0 == key }
        }
    }
}
