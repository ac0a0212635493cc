import DequeModule
import Synchronization

/// One event of a job with its place in the order of all events, shared by every viewer.
final class LoggedEvent: Sendable {
    /// Counts from 1 over all events of the job; a viewer's cursor.
    let sequence: UInt64
    /// Counts from 1 over the replayable events; the SSE `id`. Nil for the others.
    let id: UInt64?
    let event: JobEvent
    private let encodings = Mutex<[EncodingKey: [UInt8]]>([:])

    init(sequence: UInt64, id: UInt64?, event: JobEvent) {
        self.sequence = sequence
        self.id = id
        self.event = event
    }

    /// The bytes of the event for viewers of one kind, made by the first of them and shared by all. Kinds beyond a handful
    /// (callers can name any `Host`) are made anew each time.
    func encoding(for key: EncodingKey, make: (LoggedEvent) -> [UInt8]) -> [UInt8] {
        encodings.withLock { encodings in
            if let known = encodings[key] { return known }
            let made = make(self)
            if encodings.count < 6 { encodings[key] = made }
            return made
        }
    }
}

/// What the bytes of an event depend on, besides the event.
struct EncodingKey: Hashable, Sendable {
    let previews: PreviewMode
    /// Scheme and authority of the links.
    let base: String
    /// When their signatures end; the same for all viewers during some time.
    var linksExpire: Int?
}

/// How a viewer wants previews.
enum PreviewMode: String, Sendable, Hashable, CaseIterable {
    case base64, url, none
}

/// The events of one job. Viewers hold no mailbox but a cursor into it, so a slow viewer costs nothing, slows nobody
/// and still gets every replayable event in order: it only misses what was superseded meanwhile.
///
/// Bounds: of progress and queue position only the newest is kept, of previews and native messages the newest
/// `previewLimit` (and `previewBytesLimit`) and `nativeLimit`, of replayable events the newest `replayLimit` (a viewer that asks for older ones is
/// told so).
struct EventLog: Sendable {
    static let replayLimit = 20_000
    static let nativeLimit = 256
    /// Bytes of a job's previews; the newest is kept whatever its size (ComfyUI's socket takes 256 MB).
    static let previewBytesLimit = 32 << 20

    private let previewLimit: Int
    private var sequence: UInt64 = 0
    private(set) var lastID: UInt64 = 0
    private var replayable: Deque<LoggedEvent> = []
    private(set) var previews: Deque<LoggedEvent> = []
    private var previewBytes = 0
    private var natives: Deque<LoggedEvent> = []
    private var progress: LoggedEvent?
    private var queuePosition: LoggedEvent?

    init(previewLimit: Int) {
        self.previewLimit = previewLimit
    }

    /// The cursor of a viewer that has seen everything.
    var end: UInt64 { sequence }
    /// The id before the oldest event that can be replayed.
    var firstReplayableID: UInt64 { replayable.first?.id ?? lastID + 1 }
    var latestProgress: LoggedEvent? { progress }
    var latestPreview: LoggedEvent? { previews.last }

    mutating func append(_ event: JobEvent) {
        sequence += 1
        if event.isReplayable { lastID += 1 }
        let logged = LoggedEvent(sequence: sequence, id: event.isReplayable ? lastID : nil, event: event)
        switch event {
        case .status, .node, .output, .log:
            replayable.append(logged)
            if replayable.count > Self.replayLimit { replayable.removeFirst() }
        case .preview:
            previews.append(logged)
            previewBytes += logged.previewSize
            while previews.count > previewLimit || (previewBytes > Self.previewBytesLimit && previews.count > 1) {
                previewBytes -= previews.removeFirst().previewSize
            }
        case .comfyui:
            natives.append(logged)
            if natives.count > Self.nativeLimit { natives.removeFirst() }
        case .progress: progress = logged
        case .queuePosition: queuePosition = logged
        }
    }

    /// The cursor of a viewer that has seen the replayable events up to `id`; nil when a later one is no longer kept.
    func cursor(afterID id: UInt64) -> UInt64? {
        guard id >= firstReplayableID - 1 else { return nil }
        guard id > 0, id >= firstReplayableID else { return id == 0 ? 0 : (replayable.first?.sequence ?? sequence + 1) - 1 }
        return replayable[Int(id - firstReplayableID)].sequence
    }

    /// The next events after a cursor, in order, at most `limit`.
    func events(after cursor: UInt64, limit: Int) -> [LoggedEvent] {
        guard cursor < sequence else { return [] }
        var found: [LoggedEvent] = []
        for kept in [replayable, previews, natives] {
            found += kept[kept.partitioningIndex { $0.sequence > cursor }...].prefix(limit)
        }
        found += [progress, queuePosition].compactMap(\.self).filter { $0.sequence > cursor }
        found.sort { $0.sequence < $1.sequence }
        return Array(found.prefix(limit))
    }

    /// Forgets the bytes that weigh most, once the job is over.
    mutating func dropPreviews() {
        previews.removeAll()
        previewBytes = 0
        natives.removeAll()
    }
}

extension LoggedEvent {
    fileprivate var previewSize: Int { if case .preview(let preview) = event { preview.bytes.count } else { 0 } }
}
