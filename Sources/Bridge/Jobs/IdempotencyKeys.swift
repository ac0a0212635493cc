import DequeModule
import Synchronization

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

    private struct Entry {
        enum Outcome {
            case open
            case settled(JobID?)
        }

        let number: UInt64
        let digest: [UInt8]
        let since: ContinuousClock.Instant
        var outcome = Outcome.open
    }

    private struct State {
        var entries: [String: Entry] = [:]
        /// Oldest first. A claim whose number is not its key's any more was released.
        var claims: Deque<(key: String, number: UInt64)> = []
        var lastNumber: UInt64 = 0
    }

    /// Claims remembered at the most; the oldest go first.
    private static let limit = 100_000
    private static let lifetime = Duration.seconds(24 * 60 * 60)

    private let state = Mutex(State())

    /// - Parameter digest: what makes two requests the same.
    func claim(_ key: String, digest: [UInt8], now: ContinuousClock.Instant = .now) -> Claim {
        state.withLock { state in
            while let oldest = state.claims.first {
                if let entry = state.entries[oldest.key], entry.number == oldest.number {
                    guard state.claims.count >= Self.limit || now - entry.since >= Self.lifetime else { break }
                    state.entries[oldest.key] = nil
                }
                state.claims.removeFirst()
            }
            switch state.entries[key]?.outcome {
            case .open: return .busy
            case .settled(let job): return .used(job, isSame: state.entries[key]?.digest == digest)
            case nil:
                state.lastNumber += 1
                state.entries[key] = Entry(number: state.lastNumber, digest: digest, since: now)
                state.claims.append((key, state.lastNumber))
                return .granted
            }
        }
    }

    /// The request was carried out: the key is used up.
    func settle(_ key: String, job: JobID? = nil) {
        state.withLock { $0.entries[key]?.outcome = .settled(job) }
    }

    /// The request was refused: the key may be used again.
    func release(_ key: String) {
        state.withLock { $0.entries[key] = nil }
    }
}
