import ComfyUI
import FoundationEssentials
import Jobs
import NIOCore
import OrderedCollections
import OrderedJSON
import Wording
import Workflow

/// The execution of a workflow inside a ComfyUI as a value: messages in, effects out, no IO.
///
/// It knows what ComfyUI says and when the execution is over; its attempt decides what follows. Messages of other prompts must
/// not be passed in (except those without a prompt id, which it judges itself).
struct Execution: Sendable {
    /// What the owner has to do, in this order.
    enum Effect: Sendable {
        /// ComfyUI took the prompt; deadlines count from here.
        case started
        case publish(JobEvent)
        case preview(node: String, contentType: String, image: ByteBuffer)
        /// A node's `ui` result: look up its files and publish them as outputs.
        case collect(NodeOutput)
        /// A result that came over the socket (SaveImageWebsocket) and is kept nowhere else.
        case capture(node: String, contentType: String, image: ByteBuffer)
        /// The run is over as said.
        case end(Ending)
        /// The run is over, or may be, but the messages do not tell how: look into `/queue`, then `/history`.
        case inquire
        /// The last message is due; when it does not come at once, the books know as well.
        case awaitEnd
    }

    enum Ending: Sendable, Equatable {
        case succeeded
        case failed(JobError)
        case interrupted
    }

    struct NodeOutput: Sendable {
        /// The node of the submitted graph.
        let node: String
        /// The node that made it, which an expansion may have generated.
        let part: String
        let output: JSONObject
        /// An earlier run made it; ComfyUI took it from its cache.
        let isReused: Bool
    }

    private enum Phase {
        case waiting
        /// Its first message was heard. Otherwise the books or a later message told that it runs, and what is missing may still come.
        case running(isWitnessed: Bool)
        /// ComfyUI said how it went, and has yet to say that the prompt is over (`executing null`).
        case ending(Ending)
        case over
    }

    private let workflow: Workflow
    private let outputNodes: Set<Name>
    private var phase = Phase.waiting
    /// The socket was away for some time since the submit: messages may be missing, only history knows the outputs.
    private var hasGap = false
    /// So much so that messages of the run itself are missing.
    private var hasMissedPart = false
    /// The socket broke while the prompt ran, and ComfyUI has not been seen since.
    private var isOutOfSight = false
    private var tracker: ProgressTracker
    /// Nodes that ComfyUI has a result of already, and nodes that it began to run; generated ones too.
    private var cached: Set<Name> = []
    private var begun: Set<Name> = []
    /// Prompts in ComfyUI's queue, as far as its messages told.
    private var queueLength = 0
    /// A prompt has left the queue while this one ran, and nothing has come of this one since.
    private var mayHaveLeft = false

    init(workflow: Workflow, outputNodes: Set<Name>, told: Job.Told = Job.Told()) {
        self.workflow = workflow
        self.outputNodes = outputNodes
        tracker = ProgressTracker(workflow: workflow, needed: outputNodes.isEmpty ? Set(workflow.nodes.keys) : workflow.reachable(from: outputNodes))
        resume(told)
    }

    /// The run is one of which viewers were told before.
    mutating func resume(_ told: Job.Told) {
        for node in told.nodes {
            if node.state == .cached { cached.insert(Name(node.node)) } else { begun.insert(Name(node.node)) }
        }
        tracker.resume(told)
    }

    var isRunning: Bool {
        switch phase {
        case .running, .ending: true
        case .waiting, .over: false
        }
    }

    /// ComfyUI said how the run went, or that a prompt has left its queue, and not yet that this one is over.
    var isEndDue: Bool {
        switch phase {
        case .ending: true
        case .running: mayHaveLeft
        case .waiting, .over: false
        }
    }

    /// A node has begun, or messages that would tell are missing.
    var mayHaveBegun: Bool { hasGap || !begun.isEmpty }

    /// What it means when ComfyUI does not have the prompt.
    var lossWhenAbsent: AttemptEnd.Loss { isOutOfSight ? .killed : isRunning ? .running : .waiting }

    /// The run is over, and results may be missing that only the socket carries.
    var lacksResults: Bool { hasMissedPart && workflow.nodes.values.contains { $0.classType == Self.socketOutput } }

    private static let socketOutput = "SaveImageWebsocket"

    // MARK: Inputs

    mutating func received(_ message: ComfyMessage) -> [Effect] {
        if case .over = phase { return [] }
        if case .unknown = message {} else if message.promptID != nil { mayHaveLeft = false }
        switch message {
        case .executionStart:
            return start(isWitnessed: true)
        case .executionCached(_, let nodes, _):
            cached.formUnion(nodes.lazy.map { Name($0) })
            return start() + events(of: tracker.cached(nodes))
        case .executing(_, let node, let displayNode):
            begun.insert(Name(node))
            return start() + events(of: tracker.started(node, displayNode: displayNode ?? node))
        case .executingBare(let node):
            guard let node, isRunning else { return [] }
            begun.insert(Name(node))
            return events(of: tracker.started(node, displayNode: node))
        case .progress(_, let node, let value, let maximum):
            guard let node else { return [] }
            return start() + events(of: tracker.progressed(node, value: value, maximum: maximum))
        case .progressState(_, let nodes):
            return start() + events(of: tracker.state(nodes))
        case .executed(_, let node, let displayNode, let output):
            guard let output, !output.isEmpty else { return [] }
            return start() + [.collect(NodeOutput(node: displayNode, part: node, output: output, isReused: isReused(node, displayNode: displayNode)))]
        case .executionError(let error) where error.isBlocked:
            return [.publish(.log(LogEntry(.warning, withoutPaths(error.exceptionMessage.excerptOfMessage), node: error.nodeID)))]
        case .executionError(let error):
            return decided(.failed(JobError(error)))
        case .executionInterrupted:
            return decided(.interrupted)
        case .executionSuccess:
            return decided(.succeeded)
        case .executionEnded:
            return ended()
        case .unknown(let type, let raw, let promptID):
            guard promptID != nil || isRunning else { return [] }
            return [.publish(.comfyui(raw: raw.utf8.count <= Self.unknownLimit ? raw : Self.omitted(type, bytes: raw.utf8.count)))]
        case .status(let remaining, _):
            // A prompt has left the queue: this one, if it ran and nobody deleted another.
            defer { queueLength = remaining }
            guard case .running = phase, remaining < queueLength else { return [] }
            defer { mayHaveLeft = true }
            return mayHaveLeft ? [] : [.awaitEnd]
        case .featureFlags, .logs:
            return []
        }
    }

    mutating func received(_ message: ComfyBinaryMessage) -> [Effect] {
        guard isRunning else { return [] }
        switch message {
        case .preview(let frame):
            guard let node = frame.metadata?.displayNodeID ?? frame.metadata?.nodeID ?? tracker.currentNode else { return [] }
            if frame.contentType == "image/png", isSentOverSocket(node) {
                return [.capture(node: node, contentType: frame.contentType, image: frame.image)]
            }
            return [.preview(node: node, contentType: frame.contentType, image: frame.image)]
        case .progressText(let node, let text, _):
            // Sent to all sockets, without a prompt id: ours only if the node is.
            guard workflow.nodes[node] != nil else { return [] }
            return [.publish(.log(LogEntry(.info, text, node: node)))]
        case .unknown(let type, let length, let head):
            var data: JSONObject = ["type": JSON(Int(type)), "bytes": JSON(length)]
            data["data_base64"] = head.readableBytes == length ? .string(Data(head.readableBytesView).base64EncodedString()) : .null
            return [.publish(.comfyui(raw: (["type": "binary", "data": .object(data)] as JSON).text))]
        }
    }

    /// Bytes of a message of an unknown type that viewers are sent; of a larger one they are told type and size.
    private static let unknownLimit = 64 << 10

    private static func omitted(_ type: String, bytes: Int) -> String {
        (["type": .string(String(decoding: type.utf8.prefix(200), as: UTF8.self)), "data": .null, "bytes": JSON(bytes)] as JSON).text
    }

    /// The socket broke, or was silent for too long: what was missed can only be read from history.
    mutating func lostTouch() {
        hasGap = true
        isOutOfSight = isRunning
        // Behind the outcome nothing of the run comes any more.
        if case .running = phase { hasMissedPart = true }
    }

    /// Whether ComfyUI's books know more than its messages told.
    func hasMissed(_ verdict: Reconciliation) -> Bool {
        switch (verdict, phase) {
        case (.running, .waiting), (.finished, .waiting), (.finished, .running): true
        default: false
        }
    }

    /// What `/queue` and `/history` said about the prompt.
    mutating func reconciled(_ verdict: Reconciliation) -> [Effect] {
        if case .over = phase { return [] }
        switch verdict {
        case .waiting: return []
        case .running:
            isOutOfSight = false
            return start()
        case .finished(let outputs, let ending):
            switch phase {
            case .waiting, .running: hasMissedPart = true
            case .ending, .over: break
            }
            let effects = start() + outputs.map(Effect.collect)
            phase = .over
            return effects + completion(ending) + [.end(ending)]
        case .unreadable: return []
        case .absent:
            // Neither waiting, running nor done: a restart, or somebody deleted it, or its entry. The owner decides, unless it is known how it went.
            guard case .ending(let ending) = phase, !hasGap else { return [] }
            phase = .over
            return completion(ending) + [.end(ending)]
        }
    }

    // MARK: Transitions

    /// - Parameter isWitnessed: by the first message of the run; what else tells that it runs may have come after some that were missed.
    private mutating func start(isWitnessed: Bool = false) -> [Effect] {
        if case .running(false) = phase, isWitnessed { phase = .running(isWitnessed: true) }
        guard case .waiting = phase else { return [] }
        phase = .running(isWitnessed: isWitnessed)
        if hasGap, !isWitnessed { hasMissedPart = true }
        return [.started]
    }

    private mutating func decided(_ ending: Ending) -> [Effect] {
        switch phase {
        // Its start was missed; or it is not this run's end but, late, that of one before, which had the same id.
        case .waiting:
            hasGap = true
            return [.inquire]
        // The same, of a run that was only seen in the books.
        case .running(isWitnessed: false): (hasGap, hasMissedPart) = (true, true)
        case .running(isWitnessed: true), .ending, .over: break
        }
        phase = .ending(ending)
        return [.awaitEnd]
    }

    private mutating func ended() -> [Effect] {
        guard case .ending(let ending) = phase, !hasGap else { return [.inquire] }
        phase = .over
        return completion(ending) + [.end(ending)]
    }

    private mutating func completion(_ ending: Ending) -> [Effect] {
        ending == .succeeded ? events(of: tracker.completed()) : []
    }

    private mutating func events(of changes: [NodeEvent]) -> [Effect] {
        var effects = changes.map { Effect.publish(.node($0)) }
        if let progress = tracker.takeChangedProgress() { effects.append(.publish(.progress(progress))) }
        return effects
    }

    /// What was missed proves nothing: then a node that was not seen to run may have.
    private func isReused(_ node: String, displayNode: String) -> Bool {
        guard !begun.contains(node) else { return false }
        return cached.contains(node) || cached.contains(displayNode) || !hasGap
    }

    private func isSentOverSocket(_ node: String) -> Bool {
        workflow.nodes[node]?.classType == Self.socketOutput || outputNodes.contains(node)
    }
}
