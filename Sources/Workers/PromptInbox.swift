package import ComfyUI
package import Jobs
import NIOCore
import OrderedJSON
import Synchronization
import Wording
package import Workflow

/// Sorts what comes over one ComfyUI's socket into the prompts it belongs to, and knows whether the socket is there.
///
/// `receive` runs on the socket's event loop and never waits: the socket is always drained. Each open prompt has an
/// unbounded stream; its reader does nothing but sort messages, everything slow happens in other tasks.
package final class PromptInbox: Sendable {
    /// What happens to a prompt, in one order.
    package enum Input: Sendable {
        case message(ComfyMessage)
        case binary(ComfyBinaryMessage)
        /// The socket broke; messages may be missing from here on.
        case lostTouch
        /// The socket is back.
        case reconnected
        case submitted(SubmitResult)
        case verdict(Reconciliation)
        /// ComfyUI could not be asked.
        case noVerdict
        case silent
        /// ComfyUI has begun another prompt, and it runs one after the other: if this one ran, it is over.
        case overtaken
        /// ComfyUI is stuck in another prompt.
        case stuck(Rotation.Fault)
        /// ComfyUI has been away for longer than blocked callers wait; told again and again.
        case away
        /// ComfyUI said some time ago how the prompt went.
        case endDue(after: Duration)
        case deadline
        case cancel
    }

    package enum SubmitResult: Sendable {
        case accepted(partialFaults: WorkflowFaults)
        case refused(JobError)
        /// It is certain that ComfyUI does not have the prompt.
        case notDelivered(reason: String)
        /// It could not even be connected to.
        case notReached
        /// ComfyUI has it already, from before.
        case found
        /// ComfyUI may or may not have it.
        case unknown
    }

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
        package var connection = Connection.disconnected(since: .now, reason: "not connected yet")
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
    var loss: String? {
        absence.flatMap { [EventSocket.replacement, EventSocket.stop].contains($0.reason) ? nil : withoutPaths($0.reason) }
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

    /// Closes a prompt, unless it was opened again since: a job that was put back may be taken by the same worker before its last run is done with it.
    package func close(_ job: JobID, _ channel: Channel) {
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
    func announce(_ input: Input, except job: JobID? = nil) {
        let receivers = state.withLock { $0.prompts.filter { $0.key != job?.description } }
        for receiver in receivers.values { receiver.channel.send(input) }
    }

    /// For the checks of the connection's registration, under the inbox's lock.
    func withRegistration<Result: Sendable>(_ body: (inout RegistrationProof) -> Result) -> Result {
        state.withLock { body(&$0.registration) }
    }

    func receive(_ event: EventSocketEvent, at now: ContinuousClock.Instant = .now) {
        switch event {
        case .message(.status(_, sid: .some), _): break  // the first of a connection, which comes from elsewhere than all others
        case .message(.featureFlags, _): withRegistration { $0.received(isFlags: true) }
        case .message, .binary, .undecodable: withRegistration { $0.received(isFlags: false) }
        case .connected: withRegistration { $0.connected(at: .now) }
        case .receiving: withRegistration { $0.receiving(at: now) }
        case .disconnected: withRegistration { $0.disconnected() }
        }
        switch event {
        case .message(.unknown(let type, let raw, let promptID), _):
            deliverUnknown(.message(.unknown(type: type, raw: raw, promptID: promptID)), .text, promptID: promptID)
        case .message(.progress(nil, let node, let value, let maximum), _):
            deliver(.message(.progress(promptID: nil, node: node, value: value, maximum: maximum)), promptID: state.withLock { $0.current })
        case .message(let message, _):
            noteRunning(message)
            deliver(.message(message), promptID: message.promptID)
        case .binary(.preview(let frame)):
            // One without a mark belongs to what runs now, and to nothing else that is open: a prompt without client id tells by its progress that it
            // runs (protocol section 8.4). Whether ComfyUI marks previews says nothing: it decides that before it has our flags, and sends it after.
            guard let promptID = frame.metadata?.promptID ?? state.withLock({ $0.current }) else { break }
            deliver(.binary(.preview(frame)), promptID: promptID)
        case .binary(.progressText(let node, let text, let promptID)):
            deliver(.binary(.progressText(nodeID: node, text: text, promptID: promptID)), promptID: promptID ?? state.withLock { $0.current })
        case .binary(.unknown(let type, let length, let head)):
            deliverUnknown(.binary(.unknown(type: type, length: length, head: head)), .binary, promptID: nil)
        case .receiving: state.withLock { $0.lastPart = now }
        case .undecodable: metrics.unknownMessages[.unreadable].add()  // logged by the socket
        case .connected:
            state.withLock { $0.current = nil }
            changeConnection(.connected, input: .reconnected)
        case .disconnected(let reason):
            changeConnection(.disconnected(since: .now, reason: reason), input: .lostTouch)
        }
    }

    /// Keeps which prompt runs, and tells the others when one begins.
    private func noteRunning(_ message: ComfyMessage) {
        guard let promptID = message.promptID else { return }
        let isEnd = if case .executionEnded = message { true } else { false }
        let overtaken = state.withLock { state -> [Prompt] in
            state.current = isEnd ? nil : promptID
            guard case .executionStart = message else { return [] }
            return state.prompts.filter { $0.key != promptID }.map(\.value)
        }
        for prompt in overtaken { prompt.channel.send(.overtaken) }
    }

    /// A message that names no prompt goes to all open ones: they judge it themselves.
    private func deliver(_ input: Input, promptID: String?) {
        let receivers = state.withLock { state -> [Prompt] in
            guard let promptID else { return Array(state.prompts.values) }
            state.prompts[promptID]?.lastHeard = .now
            return [state.prompts[promptID]].compactMap(\.self)
        }
        for receiver in receivers { receiver.channel.send(input) }
    }

    /// A message of an unknown type goes to the prompt that it names, else to the one that runs. It is no sign of life: a node pack may send it at any time.
    private func deliverUnknown(_ input: Input, _ kind: Metrics.UnknownMessage, promptID: String?) {
        metrics.unknownMessages[kind].add()
        let receivers = state.withLock { state -> [Prompt] in
            guard state.unknownAllowance.take(at: .now) else { return [] }
            guard let promptID = promptID ?? state.current else { return Array(state.prompts.values) }
            return [state.prompts[promptID]].compactMap(\.self)
        }
        if receivers.isEmpty { metrics.unknownMessagesDropped.add() }
        for receiver in receivers { receiver.channel.send(input) }
    }

    private func changeConnection(_ connection: Connection, input: Input) {
        let receivers = state.withLock { state in
            state.hasTried = true
            switch (state.connection, connection) {
            case (.disconnected(let since, _), .disconnected(_, let reason)):
                state.connection = .disconnected(since: since, reason: reason)  // still; keep the beginning
            default:
                state.connection = connection
            }
            return Array(state.prompts.values)
        }
        for receiver in receivers { receiver.channel.send(input) }
        onConnectionChange(connection)
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
