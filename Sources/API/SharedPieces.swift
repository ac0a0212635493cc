import Jobs
import Synchronization

/// Events in a row as viewers of one kind are sent them, in one piece.
struct EventPiece: Sendable {
    let kind: EncodingKey
    /// The cursors of a viewer before and after it.
    let start: UInt64
    let end: UInt64
    /// The numbers of the previews in it; nil when there is none.
    let previews: ClosedRange<Int>?
    let bytes: [UInt8]
}

/// The newest pieces of a job. Thousands of viewers that keep up are at the same place when something happens: the first of them makes the
/// piece, for the others it is a look into this short list.
final class SharedPieces: SharedRendering {
    private static let limit = 4

    /// By their start; nil when none are to be kept any more.
    private let pieces = Mutex<[EventPiece]?>([])

    func piece(for kind: EncodingKey, at cursor: UInt64) -> EventPiece? {
        pieces.withLock { $0?.last { $0.start == cursor && $0.kind == kind } }
    }

    /// Whether others will be at this place too, as far as can be said: not behind those that keep up, and not in too many kinds.
    func wantsPiece(at cursor: UInt64) -> Bool { pieces.withLock { Self.hasPlace(at: cursor, in: $0) } }

    func add(_ piece: EventPiece) {
        pieces.withLock { pieces in
            guard Self.hasPlace(at: piece.start, in: pieces) else { return }
            if pieces?.count == Self.limit { pieces?.removeFirst() }
            pieces?.append(piece)
        }
    }

    func forget() { pieces.withLock { $0 = nil } }

    private static func hasPlace(at cursor: UInt64, in pieces: [EventPiece]?) -> Bool {
        guard let pieces else { return false }
        guard let first = pieces.first, let last = pieces.last else { return true }
        return cursor >= last.start && (pieces.count < limit || first.start < cursor)
    }
}
