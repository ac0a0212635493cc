package import DequeModule
package import FoundationEssentials
import Synchronization

/// One event of a job with its place in the order of all events, shared by every viewer.
package final class LoggedEvent: Sendable {
    /// Counts from 1 over all events of the job; a viewer's cursor.
    package let sequence: UInt64
    /// Counts from 1 over the replayable events; the SSE `id`. Nil for the others.
    package let id: UInt64?
    package let event: JobEvent
    package let date: Date
    private let slot = Mutex(RenderingSlot.empty)

    package init(sequence: UInt64, id: UInt64?, event: JobEvent, date: Date = Date()) {
        self.sequence = sequence
        self.id = id
        self.event = event
        self.date = date
    }

    /// An event that was written down, of a job whose other events are gone: ids are places enough then.
    package convenience init(id: UInt64, event: JobEvent, date: Date) { self.init(sequence: id, id: id, event: event, date: date) }

    /// What viewers are sent of the event, made by the first of them.
    package func rendering<Rendering: SharedRendering>(_ make: () -> Rendering) -> Rendering { slot.withLock { $0.rendering(make) } }
    /// From now on each viewer makes its own.
    func forgetRendering() { slot.withLock { $0.close() } }
}

/// The events of one job. Viewers hold no mailbox but a cursor into it, so a slow viewer costs nothing, slows nobody
/// and still gets every replayable event in order: it only misses what was superseded meanwhile.
///
/// Bounds: of progress and queue position only the newest is kept, of previews and native messages the newest
/// `previewLimit` (and `previewBytesLimit`) and `nativeLimit` (and `nativeBytesLimit`), of replayable events the newest `replayLimit` (a viewer that asks for older ones is
/// told so).
///
/// Where events are written down, nobody sees one before it is: `reveal` moves the end up to which there is something to be seen. What
/// is never written, such as a preview, waits only for the events before it.
package struct EventLog: Sendable {
    package static let replayLimit = 20_000
    static let nativeLimit = 256
    static let nativeBytesLimit = 4 << 20
    /// Bytes of a job's previews; the newest is kept whatever its size (ComfyUI's socket takes 256 MB).
    static let previewBytesLimit = 32 << 20

    private let previewLimit: Int
    private var sequence: UInt64 = 0
    private(set) var lastID: UInt64 = 0
    /// The newest id that viewers see.
    private(set) var visibleID: UInt64 = 0
    private let isHiddenUntilWritten: Bool
    private var replayable: Deque<LoggedEvent> = []
    package private(set) var previews: Deque<LoggedEvent> = []
    private var previewBytes = 0
    private var natives: Deque<LoggedEvent> = []
    private var nativeBytes = 0
    private var progress: LoggedEvent?
    private var queuePosition: LoggedEvent?

    /// - Parameter isHiddenUntilWritten: events with ids are seen once they are revealed.
    package init(previewLimit: Int, isHiddenUntilWritten: Bool = false) {
        self.previewLimit = previewLimit
        self.isHiddenUntilWritten = isHiddenUntilWritten
    }

    /// The log of a job that goes on, or of which only the number of its events is known.
    ///
    /// - Parameter past: the newest events, all written down.
    package init(previewLimit: Int, past: [LoggedEvent], lastID: UInt64) {
        self.init(previewLimit: previewLimit, isHiddenUntilWritten: true)
        (sequence, self.lastID, visibleID) = (lastID, lastID, lastID)
        replayable = Deque(past.suffix(Self.replayLimit))
    }

    /// The cursor of a viewer that has seen everything there is to be seen.
    package var end: UInt64 { firstHidden.map { $0.sequence - 1 } ?? sequence }
    /// The id of the oldest event that can be replayed.
    var firstReplayableID: UInt64 { replayable.first?.id ?? lastID + 1 }
    var latestProgress: LoggedEvent? { progress.flatMap { $0.sequence <= end ? $0 : nil } }
    /// Whether it is to be seen yet or not.
    var newestProgressEvent: LoggedEvent? { progress }
    package var latestPreview: LoggedEvent? { previews.last { $0.sequence <= end } }

    private var firstHidden: LoggedEvent? {
        visibleID == lastID ? nil : replayable[max(0, Int(visibleID + 1) - Int(firstReplayableID))]
    }

    /// The events after an id, seen or not.
    func replayable(after id: UInt64) -> [LoggedEvent] {
        Array(replayable.dropFirst(max(0, Int(id + 1) - Int(firstReplayableID))))
    }

    mutating func reveal(through id: UInt64) { visibleID = max(visibleID, min(id, lastID)) }

    package mutating func append(_ event: JobEvent) {
        sequence += 1
        if event.isReplayable {
            lastID += 1
            if !isHiddenUntilWritten { visibleID = lastID }
        }
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
            nativeBytes += logged.nativeSize
            while natives.count > Self.nativeLimit || (nativeBytes > Self.nativeBytesLimit && natives.count > 1) {
                nativeBytes -= natives.removeFirst().nativeSize
            }
        case .progress: progress = logged
        case .queuePosition: queuePosition = logged
        }
    }

    /// The cursor of a viewer that has seen the replayable events up to `id`; nil when a later one is no longer kept.
    package func cursor(afterID id: UInt64) -> UInt64? {
        guard id >= firstReplayableID - 1 else { return nil }
        guard id > 0, id >= firstReplayableID else { return id == 0 ? 0 : (replayable.first?.sequence ?? sequence + 1) - 1 }
        return replayable[Int(id - firstReplayableID)].sequence
    }

    /// The next events after a cursor, in order, at most `limit`.
    package func events(after cursor: UInt64, limit: Int) -> [LoggedEvent] {
        let end = end
        guard cursor < end else { return [] }
        var found: [LoggedEvent] = []
        for kept in [replayable, previews, natives] {
            found += kept[kept.partitioningIndex { $0.sequence > cursor }...].prefix(limit)
        }
        found += [progress, queuePosition].compactMap(\.self).filter { $0.sequence > cursor }
        found.removeAll { $0.sequence > end }
        found.sort { $0.sequence < $1.sequence }
        return Array(found.prefix(limit))
    }

    /// Whether progress is all there is behind a cursor, seen or not.
    func hasOnlyProgress(after cursor: UInt64) -> Bool {
        [replayable.last, previews.last, natives.last, queuePosition].allSatisfy { ($0?.sequence ?? 0) <= cursor }
    }

    /// See `LoggedEvent.forgetRendering`.
    func forgetRenderings() {
        for event in replayable { event.forgetRendering() }
        for event in previews { event.forgetRendering() }
        for event in natives { event.forgetRendering() }
    }

    /// Forgets the bytes that weigh most, once the job is over.
    mutating func dropPreviews() {
        previews.removeAll()
        previewBytes = 0
        natives.removeAll()
        nativeBytes = 0
    }
}

extension LoggedEvent {
    fileprivate var nativeSize: Int { if case .comfyui(let raw) = event { raw.utf8.count } else { 0 } }
    fileprivate var previewSize: Int { if case .preview(let preview) = event { preview.bytes.count } else { 0 } }
}
