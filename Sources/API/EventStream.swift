import Jobs
import MicroHTTP
import OrderedJSON
import Synchronization
import Wording

/// One viewer's event stream: an opening, then whatever the job's log has after the viewer's cursor.
///
/// It holds no events, only the cursor: the server's thread asks for more when the connection can take more, and each
/// event's bytes are made once for all viewers. A viewer that stops reading costs one event and misses only what was
/// superseded meanwhile; of the previews among that it is told how many.
final class EventStream: BodySource {
    struct Options: Sendable {
        var previews = PreviewMode.base64
        /// Whether messages of ComfyUI without an event of ours are passed on.
        var includesNative = false
        /// Sent before everything else, such as the `job` event of `/run`.
        var preamble: [UInt8] = []
        /// Called once if the viewer goes away before the end.
        var onDisconnect: (@Sendable () -> Void)?
    }

    /// Events handed over in one piece, and the bytes up to which they are joined: a copy that a viewer may have for itself alone, and holds
    /// until it reads on. A larger event ends the piece of viewers that keep up, who share it, or goes alone, in the bytes that all share.
    private static let batch = 16
    private static let batchBytes = 4096
    /// Events of the archive that are read at once, and held until the viewer has taken them.
    private static let page = 64
    /// Bytes of an event above which it is not copied into a shared piece: a system call more is cheaper then.
    private static let sharedBytes = 256 * 1024

    private struct State {
        var pendingOpening: [UInt8]?
        var cursor: UInt64
        /// It has come back to old events and not caught up yet. Pieces are for those that keep up: what was superseded since is still in them.
        var isBehind: Bool
        /// The number of the newest preview that the viewer was sent or never had a claim to; nil if it wants none.
        var previewNumber: Int?
        var isHeartbeatDue = false
        var isDraining = false
        var hasEnded = false
        var archive = Archive.idle

        /// Where the next events come from, of a job that has them only on disk.
        enum Archive {
            case idle
            case wanted
            /// The answer wakes the stream.
            case asked
            case page(ArraySlice<LoggedEvent>)
            /// They cannot be read; the viewer comes back with the id of its last one.
            case failed
        }

        /// The next events of the page that was read; nil when there are none any more.
        mutating func archived(limit: Int) -> [LoggedEvent]? {
            guard case .page(let page) = archive else { return nil }
            let rest = page.drop { $0.sequence <= cursor }
            archive = rest.isEmpty ? .idle : .page(rest)
            return rest.isEmpty ? nil : Array(rest.prefix(limit))
        }

        /// - Returns: after which event the archive is to be read now.
        mutating func takeWanted() -> UInt64? {
            guard case .wanted = archive else { return nil }
            archive = .asked
            return cursor
        }

        /// How many previews went out of the log before the viewer came to read them; each is counted once.
        mutating func missedPreviews(upTo number: Int) -> Int {
            guard let known = previewNumber, number > known else { return 0 }
            previewNumber = number
            return number - known
        }

        /// - Returns: its bytes; nil if the viewer has to be told of previews that it missed before.
        mutating func take(_ piece: EventPiece) -> [UInt8]? {
            if let previews = piece.previews, let known = previewNumber {
                guard previews.lowerBound == known + 1 else { return nil }
                previewNumber = previews.upperBound
            }
            cursor = piece.end
            return piece.bytes
        }
    }

    private let job: Job
    private let pieces: SharedPieces
    private let representation: Representation
    private let options: Options
    private let heartbeats: Heartbeats
    private let viewers: Viewers
    private let wake = WakeSlot()
    private let token: UInt64
    private let state: Mutex<State>

    /// Nil when the viewer has already seen everything there will ever be.
    init?(_ job: Job, from start: Job.Start, representation: Representation, options: Options, heartbeats: Heartbeats, viewers: Viewers) {
        guard let opening = job.watch(from: start, wake: { [wake] in wake() }) else { return nil }
        self.job = job
        pieces = job.rendering { SharedPieces() }
        self.representation = representation
        self.options = options
        self.heartbeats = heartbeats
        self.viewers = viewers
        token = opening.token
        state = Mutex(
            State(
                cursor: opening.cursor, isBehind: opening.snapshot.isEmpty,
                previewNumber: options.previews == .none ? nil : job.previewNumber(upTo: opening.cursor)))
        let bytes = encode(opening)
        state.withLock { $0.pendingOpening = bytes }
    }

    func attach(wake: @escaping @Sendable () -> Void) {
        self.wake.set(wake)
        viewers.opened()
        heartbeats.add(self) { [weak self] in self?.beat() }
    }

    func next() -> BodyChunk {
        let (chunk, wanted) = state.withLock { state in (nextChunk(&state), state.takeWanted()) }
        if let wanted { readArchive(after: wanted) }
        if case .bytes(let bytes) = chunk { viewers.sent(bytes: bytes.count) }
        return chunk
    }

    private func nextChunk(_ state: inout State) -> BodyChunk {
        if let opening = state.pendingOpening {
            state.pendingOpening = nil
            return .bytes(opening)
        }
        if state.hasEnded { return .finished }
        if let bytes = nextEvents(&state) { return .bytes(bytes) }
        if state.hasEnded { return .finished }
        switch state.archive {
        case .failed: return .failed
        case .wanted, .asked: return .pending
        case .idle, .page: break
        }
        if state.isDraining {
            state.hasEnded = true
            return .bytes(ServerSentEvent.retry(milliseconds: 2000))
        }
        if state.isHeartbeatDue {
            state.isHeartbeatDue = false
            return .bytes(ServerSentEvent.heartbeat)
        }
        return .pending
    }

    /// On a thread of the store: this one serves other viewers too.
    private func readArchive(after cursor: UInt64) {
        job.readArchive(after: cursor, limit: Self.page) { [weak self] events in
            guard let self else { return }
            // Nothing behind a place at which there should be something: they are gone.
            state.withLock { $0.archive = events.flatMap { $0.isEmpty ? nil : .page($0[...]) } ?? .failed }
            wake()
        }
    }

    func drain() {
        state.withLock { $0.isDraining = true }
        wake()
    }

    func closed(_ reason: BodyEnd) {
        if heartbeats.remove(self) { viewers.closed() }  // else it was never attached
        job.unwatch(token)
        viewers.missed(previews: state.withLock { state in state.missedPreviews(upTo: job.previewNumber(upTo: state.cursor)) })
        if reason == .disconnected { options.onDisconnect?() }
    }

    private func beat() {
        state.withLock { $0.isHeartbeatDue = true }
        wake()
    }

    private func nextEvents(_ state: inout State) -> [UInt8]? {
        let representation = representation.renewed()
        let kind = EncodingKey(
            previews: options.previews, includesNative: options.includesNative, base: representation.links.base, linksExpire: representation.links.expires)
        if !state.isBehind, let piece = pieces.piece(for: kind, at: state.cursor), let bytes = state.take(piece) { return bytes }
        while true {
            guard let events = state.archived(limit: Self.batch) ?? job.events(after: state.cursor, limit: Self.batch) else {
                if case .idle = state.archive { state.archive = .wanted }
                return nil
            }
            guard !events.isEmpty else {
                state.isBehind = false
                return nil
            }
            let bytes = join(events, kind, representation, &state)
            if !bytes.isEmpty { return bytes }
            if state.hasEnded { return nil }
        }
    }

    /// As many of the events as go into one piece, which those after this viewer get as it is if it has nothing in it for this one alone.
    private func join(_ events: [LoggedEvent], _ kind: EncodingKey, _ representation: Representation, _ state: inout State) -> [UInt8] {
        let start = state.cursor
        var isForOthers = pieces.wantsPiece(at: start)
        var previews: ClosedRange<Int>?
        var bytes: [UInt8] = []
        for event in events {
            let notice = noticeOfMissedPreviews(before: event, &state)
            bytes += notice
            let encoded = encoding(of: event, kind, representation)
            let isLarge = bytes.count + encoded.count > Self.batchBytes
            isForOthers = isForOthers && notice.isEmpty && encoded.count <= Self.sharedBytes
            guard bytes.isEmpty || !isLarge || isForOthers else { return bytes }
            bytes = bytes.isEmpty ? encoded : bytes + encoded
            state.cursor = event.sequence
            if case .preview(let preview) = event.event { previews = (previews?.lowerBound ?? preview.number)...preview.number }
            if case .status(let status, _) = event.event, status.isTerminal {
                state.hasEnded = true
                isForOthers = false
            }
            if isLarge { break }
        }
        if isForOthers, !bytes.isEmpty {
            pieces.add(EventPiece(kind: kind, start: start, end: state.cursor, previews: previews, bytes: bytes))
        }
        return bytes
    }

    private func noticeOfMissedPreviews(before event: LoggedEvent, _ state: inout State) -> [UInt8] {
        let missed: Int
        switch event.event {
        case .preview(let preview):
            missed = state.missedPreviews(upTo: preview.number - 1)
            if state.previewNumber != nil { state.previewNumber = preview.number }
        case .status(let status, _) where status.isTerminal: missed = state.missedPreviews(upTo: job.previewNumber(upTo: event.sequence))
        default: return []
        }
        guard missed > 0 else { return [] }
        viewers.missed(previews: missed)
        return ServerSentEvent.encode("dropped", data: (["previews": JSON(missed)] as JSON).encoded())
    }

    private func encoding(of logged: LoggedEvent, _ kind: EncodingKey, _ representation: Representation) -> [UInt8] {
        if case .comfyui = logged.event, !options.includesNative { return [] }
        return logged.encoding(for: kind) { logged in
            guard let (name, data) = representation.event(logged.event, of: job.id, previews: options.previews) else { return [] }
            return ServerSentEvent.encode(name, id: logged.id, data: data)
        }
    }

    /// `retry:`, which belongs to the first event, what the caller asked to have first, the present. The last event of a snapshot carries the newest id that
    /// it covers, so that a viewer that leaves right after it loses nothing.
    private func encode(_ opening: Job.Opening) -> [UInt8] {
        var bytes = ServerSentEvent.retry(milliseconds: 1000) + options.preamble
        if opening.reset {
            let reason: JSON = ["reason": "The events after your Last-Event-ID are not kept; this is the present state."]
            bytes += ServerSentEvent.encode("reset", data: reason.encoded())
        }
        let events = opening.snapshot.compactMap { representation.event($0, of: job.id, previews: options.previews) }
        for (index, event) in events.enumerated() {
            bytes += ServerSentEvent.encode(event.name, id: index == events.count - 1 ? opening.coveredID : nil, data: event.data)
        }
        if case .status(let status, _)? = opening.snapshot.last, status.isTerminal { state.withLock { $0.hasEnded = true } }
        return bytes
    }
}

/// Where the server's wake-up is put once the stream is attached. A wake-up before that is not needed: the server asks
/// for the first bytes by itself.
private final class WakeSlot: Sendable {
    private let wake = Mutex<(@Sendable () -> Void)?>(nil)

    func set(_ wake: @escaping @Sendable () -> Void) { self.wake.withLock { $0 = wake } }
    func callAsFunction() { wake.withLock { $0 }?() }
}
