import NIOCore
import OrderedCollections
import OrderedJSON
import Synchronization

/// What a connection said about itself in its `feature_flags` message.
enum ClientFlags: Sendable {
    case none
    case previewMetadata
    /// `"data": null` was sent: whoever asks for a flag of this client fails (protocol section 5).
    case null
}

/// All sockets, and the one queue and one sending loop through which every event goes (protocol sections 5, 8 and 9).
///
/// As in ComfyUI the loop waits for each socket: when one's buffers are full, everybody's events wait until it reads or leaves, and the
/// queue grows meanwhile. That queue has no bound, because the trap that clients must survive is exactly this one.
final class EventHub: Sendable {
    enum Receiver: Sendable {
        case all
        case client(ClientID)
    }

    private enum Payload {
        case text(ByteBuffer)
        case binary(ByteBuffer)
        case disruption(Disruption)
        /// The loop does nothing for so long.
        case pause(TimeAmount)
    }

    /// What happens to a socket that clients have to cope with.
    enum Disruption: Sendable {
        /// The connection ends, without a close frame.
        case cut
        /// It is no longer registered: what the reconnect trap does to it.
        case mute
        /// Its peer has vanished without a word; the server does not notice.
        case halfOpen
    }

    private struct Event {
        let receiver: Receiver
        let payload: Payload
    }

    private struct Shared {
        var outbox: [Event] = []
        var isPumping = false
        /// By client id, like the sockets: the newest connection of an id decides.
        var flags: [String: ClientFlags] = [:]
        var running: (client: ClientID, node: String?) = (.absent, nil)
        var hasCrashed = false
    }

    /// Touched on the event loop only.
    private final class LoopState {
        var sockets: OrderedDictionary<String, SocketHandler> = [:]
        var batch: [Event] = []
        var next = 0
        /// Who still has to get `batch[next]`; nil before its receivers were looked up.
        var receivers: ArraySlice<SocketHandler>?
        var unflushed: [ObjectIdentifier: SocketHandler] = [:]
        /// The reader that everybody waits for.
        var slow: SocketHandler?
        var isPaused = false
        /// Half-open ones, until the server notices.
        var vanished: [SocketHandler] = []
    }

    private let loop: any EventLoop
    private let shared = Mutex(Shared())
    private let loopState: NIOLoopBoundBox<LoopState>
    private let serverFeatures: JSON
    private let tally: Tally
    /// Called on the loop when an event cannot be sent at all, which ends a ComfyUI process.
    private let onCrash: @Sendable () -> Void

    init(loop: any EventLoop, serverFeatures: JSON, tally: Tally, onCrash: @escaping @Sendable () -> Void) {
        self.loop = loop
        self.tally = tally
        self.serverFeatures = serverFeatures
        self.onCrash = onCrash
        loopState = .makeBoxSendingValue(LoopState(), eventLoop: loop)
    }

    // MARK: Any thread

    /// Queues a text message. Order of calls is order of arrival.
    func send(_ type: String, _ data: JSON, to receiver: Receiver) {
        enqueue(.text(Self.message(type, data)), to: receiver)
    }

    /// Queues a binary message, its four bytes of type first.
    func send(binary bytes: [UInt8], to receiver: Receiver) {
        enqueue(.binary(ByteBuffer(bytes: bytes)), to: receiver)
    }

    /// In its place among the messages.
    func disrupt(_ disruption: Disruption, _ receiver: Receiver) { enqueue(.disruption(disruption), to: receiver) }

    /// Everything that is queued from now on waits so much longer.
    func pause(_ time: TimeAmount) { enqueue(.pause(time), to: .all) }

    /// The queue's length changed.
    func sendStatus(remaining: Int) { send("status", Self.status(remaining: remaining, sid: nil), to: .all) }

    /// Which prompt's client a reconnecting socket may belong to, and what its bare `executing` would name.
    func setRunning(client: ClientID, node: String?) { shared.withLock { $0.running = (client, node) } }

    /// - Throws: what Python raises when the client's flags are null.
    func supportsPreviewMetadata(_ client: ClientID) throws(NodeFailure) -> Bool {
        guard case .id(let id) = client else { return false }
        switch shared.withLock({ $0.flags[id] }) {
        case nil, .some(.none): return false
        case .previewMetadata: return true
        case .null: throw NodeFailure(type: "AttributeError", message: "'NoneType' object has no attribute 'get'")
        }
    }

    private func enqueue(_ payload: Payload, to receiver: Receiver) {
        let start = shared.withLock { shared in
            guard !shared.hasCrashed else { return false }
            shared.outbox.append(Event(receiver: receiver, payload: payload))
            defer { shared.isPumping = true }
            return !shared.isPumping
        }
        if start { loop.execute { self.pump() } }
    }

    private static func message(_ type: String, _ data: JSON) -> ByteBuffer {
        ByteBuffer(bytes: PythonJSON.encode(["type": .string(type), "data": data]))
    }

    private static func status(remaining: Int, sid: String?) -> JSON {
        var data: JSONObject = ["status": ["exec_info": ["queue_remaining": JSON(remaining)]]]
        if let sid { data["sid"] = .string(sid) }
        return .object(data)
    }

    // MARK: The sockets, on the loop

    /// A connection that was upgraded: it takes over its id and is greeted directly, past the queue.
    func connect(_ socket: SocketHandler, remaining: Int) {
        let state = loopState.value
        state.sockets.removeValue(forKey: socket.sid)
        state.sockets[socket.sid] = socket
        let running = shared.withLock { shared in
            shared.flags[socket.sid] = ClientFlags.none
            return shared.running
        }
        greet(socket, "status", Self.status(remaining: remaining, sid: socket.sid))
        if running.client == .id(socket.sid), let node = running.node { greet(socket, "executing", ["node": .string(node)]) }
    }

    /// Whoever is registered under the id of a socket that closes is forgotten, also when that is a newer one: the reconnect trap.
    func disconnect(_ socket: SocketHandler) {
        forget(socket)
        loopState.value.unflushed[ObjectIdentifier(socket)] = nil
        becameWritable(socket)
    }

    private func forget(_ socket: SocketHandler) {
        loopState.value.sockets.removeValue(forKey: socket.sid)
        shared.withLock { $0.flags[socket.sid] = nil }
    }

    func disrupt(_ disruption: Disruption, _ socket: SocketHandler) {
        switch disruption {
        case .cut: socket.drop()
        case .mute: forget(socket)
        case .halfOpen:
            guard !socket.isVanished else { return }
            socket.vanish()
            loopState.value.vanished.append(socket)
            becameWritable(socket)
        }
    }

    /// Past the messages that wait.
    func disruptNow(_ disruption: Disruption, _ receiver: Receiver) {
        for socket in receivers(of: receiver, loopState.value) ?? [] { disrupt(disruption, socket) }
    }

    /// The server's system gives up half-open connections, minutes later in life: their clean-up forgets whoever has their ids now.
    func noticeVanished() {
        let vanished = loopState.value.vanished
        loopState.value.vanished = []
        for socket in vanished {
            socket.drop()
            disconnect(socket)
        }
    }

    /// The first message of a connection, when it is `feature_flags`.
    func setFlags(_ data: JSON, of socket: SocketHandler) {
        let flags: ClientFlags =
            switch data {
            case .null: .null
            default: data["supports_preview_metadata"] == .bool(true) ? .previewMetadata : .none
            }
        let isRegistered = shared.withLock { shared in
            guard shared.flags[socket.sid] != nil else { return false }
            shared.flags[socket.sid] = flags
            return true
        }
        guard isRegistered, let current = loopState.value.sockets[socket.sid] else { return }
        greet(current, "feature_flags", serverFeatures)
    }

    /// A slow reader reads again, or is gone.
    func becameWritable(_ socket: SocketHandler) {
        guard loopState.value.slow === socket else { return }
        loopState.value.slow = nil
        pump()
    }

    private func greet(_ socket: SocketHandler, _ type: String, _ data: JSON) {
        tally.addFrames(1)
        socket.write(text: Self.message(type, data))
        socket.flush()
    }

    // MARK: The sending loop

    private func pump() {
        let state = loopState.value
        guard state.slow == nil, !state.isPaused else { return }
        while let event = nextEvent(state) {
            if case .pause(let time) = event.payload {
                state.next += 1
                flush(state)
                return pause(time, state)
            }
            if state.receivers == nil {
                guard let receivers = receivers(of: event.receiver, state) else { return crash(state) }
                state.receivers = receivers
            }
            guard deliver(event, state) else { return }
            state.receivers = nil
            state.next += 1
        }
        flush(state)
    }

    private func pause(_ time: TimeAmount, _ state: LoopState) {
        state.isPaused = true
        loop.scheduleTask(in: time) {
            self.loopState.value.isPaused = false
            self.pump()
        }
    }

    private func nextEvent(_ state: LoopState) -> Event? {
        if state.next == state.batch.count {
            state.next = 0
            state.batch = shared.withLock { shared in
                defer { shared.outbox = [] }
                if shared.outbox.isEmpty { shared.isPumping = false }
                return shared.outbox
            }
        }
        return state.batch.isEmpty ? nil : state.batch[state.next]
    }

    /// Nil: sending raises.
    private func receivers(of receiver: Receiver, _ state: LoopState) -> ArraySlice<SocketHandler>? {
        switch receiver {
        case .all, .client(.absent): state.sockets.values.elements[...]
        case .client(.id(let id)): state.sockets[id].map { [$0] } ?? []
        case .client(.unmatched): []
        case .client(.unhashable): nil
        }
    }

    /// False when a reader's buffers are full; `becameWritable` goes on.
    private func deliver(_ event: Event, _ state: LoopState) -> Bool {
        var sent = 0
        defer { tally.addFrames(sent) }
        while let socket = state.receivers?.first {
            if !socket.isWritable {
                flush(state)
                if !socket.isWritable {
                    state.slow = socket
                    return false
                }
            }
            switch event.payload {
            case .text(let text): socket.write(text: text)
            case .binary(let bytes): socket.write(binary: bytes)
            case .disruption(let disruption):
                state.receivers?.removeFirst()
                flush(state)
                disrupt(disruption, socket)
                continue
            case .pause: break  // has no receivers
            }
            sent += 1
            state.unflushed[ObjectIdentifier(socket)] = socket
            state.receivers?.removeFirst()
        }
        return true
    }

    private func flush(_ state: LoopState) {
        let sockets = state.unflushed.values
        state.unflushed = [:]
        for socket in sockets { socket.flush() }
    }

    private func crash(_ state: LoopState) {
        state.batch = []
        state.next = 0
        shared.withLock { shared in
            shared.outbox = []
            shared.hasCrashed = true
        }
        onCrash()
    }
}
