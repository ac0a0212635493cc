import ComfyUI
package import Jobs
import NIOCore
import OrderedJSON
import Synchronization
import Wording

/// Sorts what comes over one ComfyUI's socket into the prompts it belongs to, and knows whether the socket is there.
///
/// `receive` runs on the socket's event loop and never waits: the socket is always drained. It takes the lock once for each event. Each open
/// prompt has an unbounded stream; its reader does nothing but sort messages, everything slow happens in other tasks.
package final class PromptInbox: Sendable {
    package enum Connection: Sendable {
        case connected
        case disconnected(since: ContinuousClock.Instant, reason: String)
    }

    fileprivate struct Prompt {
        let channel: Channel
        var lastHeard: ContinuousClock.Instant
        /// ComfyUI is done with it.
        var isOver = false
    }

    fileprivate struct State {
        var prompts: [String: Prompt] = [:]
        /// The prompt that ComfyUI runs, as far as this connection told: of one after the other.
        var current: String?
        /// When a part of a message came last that was not complete with it.
        var lastPart: ContinuousClock.Instant?
        var connection = Connection.disconnected(since: .now, reason: "not connected yet")
        /// An attempt to connect has ended, one way or the other.
        var hasTried = false
        var registration = RegistrationProof()
        var unknownAllowance = Allowance(perSecond: 100, atOnce: 200)

        func silence(of prompt: Prompt, at now: ContinuousClock.Instant) -> Duration {
            now - max(prompt.lastHeard, lastPart ?? prompt.lastHeard)
        }
    }

    private let state = Mutex(State())
    private let metrics: Metrics
    private let onConnectionChange: @Sendable (Connection) -> Void

    init(metrics: Metrics = Metrics(), onConnectionChange: @escaping @Sendable (Connection) -> Void) {
        self.metrics = metrics
        self.onConnectionChange = onConnectionChange
    }

    package var connection: Connection { state.withLock { $0.connection } }
    package var isConnected: Bool { if case .connected = connection { true } else { false } }
    /// Why ComfyUI cannot be reached; nil while it can, and before that was tried.
    package var absence: (since: ContinuousClock.Instant, reason: String)? {
        state.withLock { state in
            guard state.hasTried, case .disconnected(let since, let reason) = state.connection else { return nil }
            return (since, reason)
        }
    }
    /// The connection and the open prompts, with how long nothing was heard of each, at one moment.
    var report: (connection: Connection, open: [Worker.OpenPrompt]) {
        state.withLock { state in
            let now = ContinuousClock.now
            return (state.connection, state.prompts.compactMap { id, prompt in JobID(id).map { Worker.OpenPrompt(job: $0, silence: state.silence(of: prompt, at: now)) } })
        }
    }
    var openCount: Int { state.withLock { $0.prompts.count } }
    /// Those of them that ComfyUI has not done yet.
    var insideCount: Int { state.withLock { $0.prompts.values.count { !$0.isOver } } }

    package func isOpen(_ promptID: String) -> Bool { state.withLock { $0.prompts[promptID] != nil } }

    /// The same in words for viewers; nil also when the bridge ended the connection itself.
    var loss: String? { absence.flatMap { Self.loss($0.reason) } }

    private static func loss(_ reason: String) -> String? {
        [EventSocket.replacement, EventSocket.stop].contains(reason) ? nil : withoutPaths(reason)
    }

    /// Opens a prompt: from here on its messages are kept. Before the submit, so that none is missed.
    package func open(_ job: JobID) -> Channel {
        let channel = Channel()
        state.withLock { $0.prompts[job.description] = Prompt(channel: channel, lastHeard: .now) }
        return channel
    }

    /// ComfyUI is done with a prompt, of which only the results are still to be looked at: it takes up no room there.
    func isOver(_ job: JobID) {
        state.withLock { $0.prompts[job.description]?.isOver = true }
    }

    /// Closes a prompt, unless it was opened again since: a job that was put back may be taken by the same worker before its last attempt is done with it.
    func close(_ job: JobID, _ channel: Channel) {
        state.withLock { state in
            if state.prompts[job.description]?.channel === channel { state.prompts[job.description] = nil }
        }
        channel.finish()
    }

    /// How long nothing was heard of a prompt, nor a part of a message arrived behind which its messages may wait; zero for one that is not open.
    package func silence(of job: JobID, at now: ContinuousClock.Instant = .now) -> Duration {
        state.withLock { state in
            state.prompts[job.description].map { state.silence(of: $0, at: now) } ?? .zero
        }
    }

    /// When a part of a message arrived last, if any did.
    var lastPart: ContinuousClock.Instant? { state.withLock { $0.lastPart } }

    /// All open prompts, or all but one, are told.
    func announce(_ input: Attempt.Input, except job: JobID? = nil) {
        let receivers = state.withLock { $0.prompts.filter { $0.key != job?.description } }
        for receiver in receivers.values { receiver.channel.send(input) }
    }

    /// For the checks of the connection's registration, under the inbox's lock.
    func withRegistration<Result: Sendable>(_ body: (inout RegistrationProof) -> Result) -> Result {
        state.withLock { body(&$0.registration) }
    }

    func receive(_ event: EventSocketEvent, at now: ContinuousClock.Instant = .now) {
        let receipt = state.withLock { $0.receive(event, at: now) }
        if let kind = receipt.unknown {
            metrics.unknownMessages[kind].add()
            if receipt.isDropped { metrics.unknownMessagesDropped.add() }
        }
        for channel in receipt.overtaken { channel.send(.overtaken) }
        switch event {
        case .message(let message, _): receipt.receivers.send(.message(message))
        case .binary(let message): receipt.receivers.send(.binary(message))
        case .receiving, .undecodable: break  // the second is logged by the socket
        case .connected: receipt.receivers.send(.reconnected)
        case .disconnected(let reason): receipt.receivers.send(.lostTouch(reason: Self.loss(reason)))
        }
        if let connection = receipt.connection { onConnectionChange(connection) }
    }

    /// What one event means, for after the lock.
    fileprivate struct Receipt {
        enum Receivers {
            case none
            case one(Channel)
            case all([Channel])

            func send(_ input: Attempt.Input) {
                switch self {
                case .none: break
                case .one(let channel): channel.send(input)
                case .all(let channels): for channel in channels { channel.send(input) }
                }
            }
        }

        var receivers = Receivers.none
        /// The others, when a prompt begins.
        var overtaken: [Channel] = []
        /// The event is a message that the bridge does not know, or cannot read.
        var unknown: Metrics.UnknownMessage?
        /// Nobody gets it.
        var isDropped = false
        var connection: Connection?
    }
}

extension PromptInbox.State {
    /// Everything that an event changes, in one step.
    fileprivate mutating func receive(_ event: EventSocketEvent, at now: ContinuousClock.Instant) -> PromptInbox.Receipt {
        switch event {
        case .message(let message, _):
            proveRegistration(by: message)
            return receive(message, at: now)
        case .binary(let message):
            registration.received(isFlags: false)
            return receive(message, at: now)
        case .receiving:
            registration.receiving(at: now)
            lastPart = now
            return PromptInbox.Receipt()
        case .undecodable:
            registration.received(isFlags: false)
            return PromptInbox.Receipt(unknown: .unreadable)
        case .connected:
            registration.connected(at: now)
            current = nil
            return change(.connected)
        case .disconnected(let reason):
            registration.disconnected()
            return change(.disconnected(since: now, reason: reason))
        }
    }

    private mutating func proveRegistration(by message: ComfyMessage) {
        switch message {
        case .status(_, sid: .some): break  // the first of a connection, which comes from elsewhere than all others
        case .featureFlags: registration.received(isFlags: true)
        default: registration.received(isFlags: false)
        }
    }

    private mutating func receive(_ message: ComfyMessage, at now: ContinuousClock.Instant) -> PromptInbox.Receipt {
        switch message {
        case .unknown(_, _, let promptID): return receiveUnknown(.text, promptID: promptID, at: now)
        // Old versions do not say of which prompt.
        case .progress(nil, _, _, _): return PromptInbox.Receipt(receivers: receivers(of: current, at: now))
        default:
            let overtaken = noteRunning(message)
            return PromptInbox.Receipt(receivers: receivers(of: message.promptID, at: now), overtaken: overtaken)
        }
    }

    private mutating func receive(_ message: ComfyBinaryMessage, at now: ContinuousClock.Instant) -> PromptInbox.Receipt {
        switch message {
        case .preview(let frame):
            // One without a mark belongs to what runs now, and to nothing else that is open: a prompt without client id tells by its progress that it
            // runs (protocol section 8.4). Whether ComfyUI marks previews says nothing: it decides that before it has our flags, and sends it after.
            guard let promptID = frame.metadata?.promptID ?? current else { return PromptInbox.Receipt() }
            return PromptInbox.Receipt(receivers: receivers(of: promptID, at: now))
        case .progressText(_, _, let promptID): return PromptInbox.Receipt(receivers: receivers(of: promptID ?? current, at: now))
        case .unknown: return receiveUnknown(.binary, promptID: nil, at: now)
        }
    }

    /// Keeps which prompt runs. Returns the others when one begins.
    private mutating func noteRunning(_ message: ComfyMessage) -> [PromptInbox.Channel] {
        guard let promptID = message.promptID else { return [] }
        current = if case .executionEnded = message { nil } else { promptID }
        guard case .executionStart = message else { return [] }
        return prompts.filter { $0.key != promptID }.map(\.value.channel)
    }

    /// A message that names no prompt goes to all open ones: they judge it themselves.
    private mutating func receivers(of promptID: String?, at now: ContinuousClock.Instant) -> PromptInbox.Receipt.Receivers {
        guard let promptID else { return .all(prompts.values.map(\.channel)) }
        prompts[promptID]?.lastHeard = now
        return prompts[promptID].map { .one($0.channel) } ?? .none
    }

    /// A message of an unknown type goes to the prompt that it names, else to the one that runs. It is no sign of life: a node pack may send it at any time.
    private mutating func receiveUnknown(_ kind: Metrics.UnknownMessage, promptID: String?, at now: ContinuousClock.Instant) -> PromptInbox.Receipt {
        var receipt = PromptInbox.Receipt(unknown: kind)
        if unknownAllowance.take(at: now) {
            receipt.receivers = (promptID ?? current).map { prompts[$0].map { .one($0.channel) } ?? .none } ?? .all(prompts.values.map(\.channel))
        }
        receipt.isDropped =
            switch receipt.receivers {
            case .none: true
            case .one: false
            case .all(let channels): channels.isEmpty
            }
        return receipt
    }

    private mutating func change(_ new: PromptInbox.Connection) -> PromptInbox.Receipt {
        hasTried = true
        if case .disconnected(let since, _) = connection, case .disconnected(_, let reason) = new {
            connection = .disconnected(since: since, reason: reason)  // still; keep the beginning
        } else {
            connection = new
        }
        return PromptInbox.Receipt(receivers: .all(prompts.values.map(\.channel)), connection: new)
    }
}

/// A token bucket: `perSecond` on average, `atOnce` in a burst.
struct Allowance: Sendable {
    private let perSecond: Double
    private let atOnce: Double
    private var rest: Double
    private var time: ContinuousClock.Instant?

    init(perSecond: Double, atOnce: Double) {
        self.perSecond = perSecond
        self.atOnce = atOnce
        rest = atOnce
    }

    /// Whether one more is within it.
    mutating func take(at now: ContinuousClock.Instant) -> Bool {
        if let time { rest = min(atOnce, rest + perSecond * max(0, (now - time).seconds)) }
        time = now
        guard rest >= 1 else { return false }
        rest -= 1
        return true
    }
}
