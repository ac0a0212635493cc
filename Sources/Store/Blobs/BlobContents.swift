import Glibc
import Jobs

/// The contents that a `BlobStore` has and who needs them, as a value. While a file is moved or removed its content is `busy`, so that nothing else
/// happens to it: a file that is removed late would be the one that was put there meanwhile.
struct BlobContents {
    enum Claim {
        /// With one more reference.
        case kept(Blob)
        /// The content is not here.
        case granted
        /// Its file is being moved or removed: `wait`, then ask again.
        case busy
    }

    private enum Entry {
        case kept(Blob, references: Int)
        case busy([CheckedContinuation<Void, Never>])
    }

    private var entries: [ContentHash: Entry] = [:]

    /// A content of a former process.
    mutating func add(_ blob: Blob, _ hash: ContentHash, references: Int) { entries[hash] = .kept(blob, references: references) }

    func blob(_ hash: ContentHash) -> Blob? { if case .kept(let blob, _)? = entries[hash] { blob } else { nil } }

    mutating func retain(_ hash: ContentHash) -> Claim {
        switch entries[hash] {
        case .kept(let blob, let references)?:
            entries[hash] = .kept(blob, references: references + 1)
            return .kept(blob)
        case .busy?: return .busy
        case nil: return .granted
        }
    }

    /// The same; a content that is not here is busy from now on, until the caller has put it there.
    mutating func claim(_ hash: ContentHash) -> Claim {
        let claim = retain(hash)
        if case .granted = claim { entries[hash] = .busy([]) }
        return claim
    }

    /// - Returns: whether the content is unknown, and busy from now on, until the caller has removed its file.
    mutating func claimUnknown(_ hash: ContentHash) -> Bool {
        guard entries[hash] == nil else { return false }
        entries[hash] = .busy([])
        return true
    }

    /// - Returns: whether that was the last reference. Then the content is busy, until the caller has removed its file.
    mutating func release(_ hash: ContentHash) -> Bool {
        guard case .kept(let blob, let references)? = entries[hash] else { return false }
        entries[hash] = references > 1 ? .kept(blob, references: references - 1) : .busy([])
        return references <= 1
    }

    /// - Returns: false when the content is not busy (any more).
    mutating func wait(for hash: ContentHash, _ continuation: CheckedContinuation<Void, Never>) -> Bool {
        guard case .busy(let waiters)? = entries[hash] else { return false }
        entries[hash] = .busy(waiters + [continuation])
        return true
    }

    /// - Parameter blob: with one reference; nil when the content is not here.
    /// - Returns: who waited.
    mutating func settle(_ hash: ContentHash, _ blob: Blob?) -> [CheckedContinuation<Void, Never>] {
        guard case .busy(let waiters)? = entries[hash] else { return [] }
        entries[hash] = blob.map { .kept($0, references: 1) }
        return waiters
    }
}

/// What is done with files of blobs, on a thread that may wait. Each returns `errno`, 0 when it is done.
package struct BlobFiles: Sendable {
    package var move: @Sendable (_ path: String, _ target: String) -> Int32 = { rename($0, $1) == 0 ? 0 : errno }
    package var remove: @Sendable (_ path: String) -> Int32 = { unlink($0) == 0 ? 0 : errno }

    package init() {}
}
