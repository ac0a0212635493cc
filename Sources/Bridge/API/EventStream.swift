import MicroHTTP
import OrderedJSON
import Synchronization

/// One viewer's event stream: an opening, then whatever the job's log has after the viewer's cursor.
///
/// It holds no events, only the cursor: the server's thread asks for more when the connection can take more, and each
/// event's bytes are made once for all viewers. A viewer that stops reading costs nothing and misses only what was
/// superseded meanwhile.
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

    /// Events handed over in one piece, so that a viewer far behind does not make the server hold its whole history.
    private static let batch = 16

    private struct State {
        var pendingOpening: [UInt8]?
        var cursor: UInt64
        var isHeartbeatDue = false
        var isDraining = false
        var hasEnded = false
    }

    private let job: Job
    private let representation: Representation
    private let options: Options
    private let heartbeats: Heartbeats
    private let metrics: Metrics
    private let wake = WakeSlot()
    private let token: UInt64
    private let state: Mutex<State>

    /// Nil when the viewer has already seen everything there will ever be.
    init?(_ job: Job, from start: Job.Start, representation: Representation, options: Options, heartbeats: Heartbeats, metrics: Metrics) {
        guard let opening = job.watch(from: start, wake: { [wake] in wake() }) else { return nil }
        self.job = job
        self.representation = representation
        self.options = options
        self.heartbeats = heartbeats
        self.metrics = metrics
        metrics.viewers.add()
        token = opening.token
        state = Mutex(State(cursor: opening.cursor))
        let bytes = encode(opening)
        state.withLock { $0.pendingOpening = bytes }
    }

    func attach(wake: @escaping @Sendable () -> Void) {
        self.wake.set(wake)
        heartbeats.add(self) { [weak self] in self?.beat() }
    }

    func next() -> BodyChunk {
        let chunk = nextChunk()
        if case .bytes(let bytes) = chunk { metrics.sent[.events].add(bytes.count) }
        return chunk
    }

    private func nextChunk() -> BodyChunk {
        state.withLock { state in
            if let opening = state.pendingOpening {
                state.pendingOpening = nil
                return .bytes(opening)
            }
            if state.hasEnded { return .finished }
            if let bytes = nextEvents(&state) { return .bytes(bytes) }
            if state.hasEnded { return .finished }
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
    }

    func drain() {
        state.withLock { $0.isDraining = true }
        wake()
    }

    func closed(_ reason: BodyEnd) {
        heartbeats.remove(self)
        job.unwatch(token)
        metrics.viewers.add(-1)
        if reason == .disconnected { options.onDisconnect?() }
    }

    private func beat() {
        state.withLock { $0.isHeartbeatDue = true }
        wake()
    }

    private func nextEvents(_ state: inout State) -> [UInt8]? {
        while true {
            let events = job.events(after: state.cursor, limit: Self.batch)
            guard let last = events.last else { return nil }
            state.cursor = last.sequence
            // One event alone is passed on as it is, without a copy.
            var bytes: [UInt8] = []
            for event in events {
                let encoded = encoding(of: event)
                bytes = bytes.isEmpty ? encoded : bytes + encoded
                if case .status(let status, _) = event.event, status.isTerminal { state.hasEnded = true }
            }
            if !bytes.isEmpty { return bytes }
            if state.hasEnded { return nil }
        }
    }

    private func encoding(of logged: LoggedEvent) -> [UInt8] {
        if case .comfyui = logged.event, !options.includesNative { return [] }
        let representation = representation.renewed()
        let key = EncodingKey(previews: options.previews, base: representation.links.base, linksExpire: representation.links.expires)
        return logged.encoding(for: key) { logged in
            guard let (name, data) = representation.event(logged.event, of: job.id, previews: options.previews) else { return [] }
            return ServerSentEvent.encode(name, id: logged.id, data: data)
        }
    }

    /// `retry:`, what the caller asked to have first, the present. The last event of a snapshot carries the newest id that
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
