import NIOCore
import OrderedCollections
import OrderedJSON

/// Where armed faults strike: server and engine call these at the places that the faults are about.
///
/// As long as nothing is armed each call is one load of an atomic.
struct FaultPoints: Sendable {
    let switches: FaultSwitches
    let hub: EventHub
    let loop: any EventLoop
    let tally: Tally
    /// For the words of a 413.
    let maximumUploadSize: Int
    let perform: @Sendable (ComfySimulator.Action) -> EventLoopFuture<Void>

    private static let atMoments: [Fault.Kind] = [.cut, .mute, .halfOpen, .exit, .deadWorker, .outOfMemory, .acceleratorOutOfMemory, .deviceError]
    private static let momentBits = atMoments.reduce(0) { $0 | $1.bit }
    private static let finalBits = Fault.Kind.delayFinal.bit | Fault.Kind.dropFinal.bit | Fault.Kind.duplicateFinal.bit
    private static let historyBits = Fault.Kind.historyMissing.bit | Fault.Kind.historyLate.bit | Fault.Kind.historyOutputs.bit
    private static let outcomes: Set = ["execution_success", "execution_error", "execution_interrupted"]

    // MARK: Moments

    /// - Throws: `Abandoned` when the process ends here, `WorkerDied`, or the failure of the node.
    func reached(_ moment: Moment, _ prompt: Prompt?) throws {
        guard switches.isArmed(any: Self.momentBits) else { return }
        for kind in Self.atMoments where switches.strike(kind, at: moment, subject: { prompt?.subject ?? "" }) != nil {
            switch kind {
            case .cut: disrupt(.cut, moment, prompt)
            case .mute: disrupt(.mute, moment, prompt)
            case .halfOpen: disrupt(.halfOpen, moment, prompt)
            case .exit:
                _ = perform(.exit)
                throw Abandoned()
            case .deadWorker: throw WorkerDied()
            case .outOfMemory: throw NodeFailure.outOfMemory
            case .acceleratorOutOfMemory: throw NodeFailure.acceleratorOutOfMemory
            case .deviceError: throw NodeFailure.deviceError
            default: break  // not in the list
            }
        }
    }

    private func disrupt(_ disruption: EventHub.Disruption, _ moment: Moment, _ prompt: Prompt?) {
        let receiver: EventHub.Receiver = prompt.map { .client($0.client) } ?? .all
        switch moment {
        case .submit, .view: hub.disruptNow(disruption, receiver)  // on the loop; the worker must not be faster
        case .connect, .start, .node, .step, .success, .end: hub.disrupt(disruption, receiver)
        }
    }

    /// A socket was greeted. On the event loop.
    func connected(_ socket: SocketHandler) {
        guard switches.isArmed(any: Self.momentBits) else { return }
        let kinds = [Fault.Kind.cut, .mute, .halfOpen, .exit].filter { kind in
            switches.strike(kind, at: .connect, subject: { socket.sid }) != nil
        }
        guard !kinds.isEmpty else { return }
        let bound = NIOLoopBound(socket, eventLoop: loop)
        loop.execute {  // when the upgrade is through
            for kind in kinds {
                switch kind {
                case .cut: hub.disrupt(.cut, bound.value)
                case .mute: hub.disrupt(.mute, bound.value)
                case .halfOpen: hub.disrupt(.halfOpen, bound.value)
                default: _ = perform(.exit)
                }
            }
        }
    }

    /// Whether a new connection is dropped. On the event loop.
    func refusesConnection() -> Bool {
        guard let milliseconds = switches.strike(.refuse, subject: { "" })?.number else { return false }
        if milliseconds > 0 { _ = perform(.refuse(.milliseconds(milliseconds))) }
        return true
    }

    // MARK: Messages

    /// Milliseconds since 1970, as the messages say it.
    func timestamp(_ prompt: Prompt? = nil) -> Int { switches.now { prompt?.subject ?? "" } }

    /// Sends a message, or not, or twice, if it is one of those that end a run.
    func sendFinal(_ type: String, _ prompt: Prompt, send: () -> Void) {
        guard switches.isArmed(any: Self.finalBits) else { return send() }
        let message: Fault.FinalMessage = type == "executing" ? .end : .outcome
        guard message == .end || Self.outcomes.contains(type) else { return send() }
        if message == .outcome, let milliseconds = switches.strike(.delayFinal, subject: { prompt.subject })?.number {
            hub.pause(.milliseconds(Int64(milliseconds)))
        }
        if strike(.dropFinal, message, prompt) { return }
        send()
        if strike(.duplicateFinal, message, prompt) { send() }
    }

    private func strike(_ kind: Fault.Kind, _ message: Fault.FinalMessage, _ prompt: Prompt) -> Bool {
        switches.strike(kind, choices: [message.rawValue, Fault.FinalMessage.both.rawValue], subject: { prompt.subject }) != nil
    }

    // MARK: History

    /// - Returns: false when the process has ended before.
    func finish(_ entry: HistoryEntry, in queue: PromptQueue) -> Bool {
        let prompt = entry.prompt
        guard switches.isArmed(any: Self.historyBits) else { return queue.finish(prompt.id, entry) }
        var shown = entry
        if let choice = switches.strike(.historyOutputs, subject: { prompt.subject })?.choice {
            shown.outputs = Fault.WrongOutputs(rawValue: choice)?.applied(to: entry.outputs) ?? shown.outputs
        }
        if switches.strike(.historyMissing, subject: { prompt.subject }) != nil {
            guard queue.finish(prompt.id, nil) else { return false }
            tally.count(prompt.id) { $0.forgotten += 1 }
            return true
        }
        guard let delay = switches.strike(.historyLate, subject: { prompt.subject })?.number else { return queue.finish(prompt.id, shown) }
        guard queue.finish(prompt.id, nil, isLate: true) else { return false }
        let late = shown
        loop.scheduleTask(in: .milliseconds(Int64(delay))) { queue.add(late) }
        return true
    }
}

extension Prompt {
    /// What the text of an order is looked for in.
    var subject: String {
        let client = if case .id(let id) = client { id } else { "" }
        return "\(id) \(client) \(JSON.object(graph).text)"
    }
}

extension Fault.WrongOutputs {
    func applied(to outputs: JSON) -> JSON {
        switch self {
        case .empty: [:]
        case .garbage: [["not", "an", "object"], 7]
        case .renamed: renamed(outputs)
        }
    }

    private func renamed(_ json: JSON) -> JSON {
        switch json {
        case .array(let elements): return .array(elements.map(renamed))
        case .object(let members):
            return .object(
                JSONObject(
                    uniqueKeysWithValues: members.map { name, value in
                        guard name == "filename", let file = value.string else { return (name, renamed(value)) }
                        return (name, .string("missing_\(file)"))
                    }))
        case .null, .bool, .number, .string: return json
        }
    }
}

extension NodeFailure {
    /// As PyTorch and ComfyUI word it. ComfyUI's type is the full name of Python's class.
    static let outOfMemory = NodeFailure(type: "torch.OutOfMemoryError", message: "Allocation on device ", tips: memoryTips)

    static let acceleratorOutOfMemory = NodeFailure(type: "torch.AcceleratorError", message: "CUDA error: out of memory\n" + asynchronous, tips: memoryTips)

    private static let memoryTips =
        "This error means you ran out of memory on your GPU.\n\nTIPS: If the workflow worked before you might have accidentally set the "
        + "batch_size to a large number."

    private static let asynchronous =
        "CUDA kernel errors might be asynchronously reported at some other "
        + "API call, so the stacktrace below might be incorrect.\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1\n"
        + "Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.\n"

    static let deviceError = NodeFailure(
        type: "torch.AcceleratorError",
        message: "CUDA error: an illegal memory access was encountered\n" + asynchronous)
}

extension PromptRun {
    private static let frameBits = Fault.Kind.hugeFrame.bit | Fault.Kind.lyingLength.bit

    /// Previews of the node that are too large, or wrong about themselves.
    func sendFaultyFrames(of node: String) throws {
        let switches = services.faults.switches
        guard switches.isArmed(any: Self.frameBits) else { return }
        let head: [UInt8] = [0xFF, 0xD8, 0xFF, 0xE0]
        if let megabytes = switches.strike(.hugeFrame, subject: { prompt.subject })?.number {
            let huge = Preview(format: .jpeg) { head + [UInt8](repeating: 0, count: megabytes << 20) }
            let hasMetadata = try services.hub.supportsPreviewMetadata(prompt.client)
            let frame = try hasMetadata ? framed(huge, of: node) : [0, 0, 0, 1, 0, 0, 0, huge.code] + huge.encode()
            services.hub.send(binary: frame, to: .client(prompt.client))
        }
        if let length = switches.strike(.lyingLength, subject: { prompt.subject })?.number {
            var frame = try framed(Preview(format: .jpeg) { head }, of: node)
            var claimed: [UInt8] = []
            claimed.append(bigEndian: UInt32(length))
            frame.replaceSubrange(4..<8, with: claimed)
            services.hub.send(binary: frame, to: .client(prompt.client))
        }
    }
}
