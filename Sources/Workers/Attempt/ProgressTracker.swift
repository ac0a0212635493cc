import ComfyUI
import Jobs
import OrderedCollections
import OrderedJSON
import Workflow

/// Turns ComfyUI's three overlapping reports (`executing`, `progress`, `progress_state`) into node events, once each, and
/// one progress value that never falls.
struct ProgressTracker: Sendable {
    private struct Node: Equatable {
        var fraction = 0.0
        var isDone = false
    }

    private let workflow: Workflow
    private let needed: Set<Name>
    private let totalWeight: Double
    /// Nodes of the submitted graph that began.
    private var nodes: [Name: Node] = [:]
    /// What the needed ones of them count for by now, and how many are done.
    private var weight = 0.0
    private var doneCount = 0
    /// Last event of every node, generated ones too.
    private var states: OrderedDictionary<Name, NodeEvent.State> = [:]
    private var displayNodes: [Name: String] = [:]
    /// What nodes that run say they do.
    private var activities: OrderedDictionary<Name, String> = [:]
    private(set) var currentNode: String?
    private var current: (value: Double, maximum: Double)?
    private(set) var progress: JobProgress
    private var published: JobProgress?

    init(workflow: Workflow, needed: Set<Name>) {
        self.workflow = workflow
        self.needed = needed
        totalWeight = max(1, needed.reduce(0) { $0 + (workflow.nodes[$1]?.weight ?? 0) })
        progress = JobProgress(value: 0, nodesDone: 0, nodesTotal: needed.count)
    }

    /// Goes on from what viewers were told: nothing of it is told again, and no number falls.
    mutating func resume(_ told: Job.Told) {
        for event in told.nodes {
            states[event.node] = event.state
            displayNodes[event.node] = event.displayNode
            switch event.state {
            case .running: currentNode = event.displayNode
            case .cached: set(event.node, Node(fraction: 1, isDone: true))
            case .finished: if event.node.hasSameBytes(as: event.displayNode) { set(event.node, Node(fraction: 1, isDone: true)) }
            }
        }
        guard let before = told.progress else { return }
        if let node = before.currentNode, node == currentNode, let step = before.step, let steps = before.steps {
            advance(node, displayNode: node, value: Double(step), maximum: Double(steps))
        }
        progress.value = max(progress.value, min(1, before.value))
        progress.nodesDone = max(progress.nodesDone, min(needed.count, before.nodesDone))
        update()
        published = progress
    }

    mutating func cached(_ ids: [String]) -> [NodeEvent] {
        let changes = ids.compactMap { id -> NodeEvent? in
            guard workflow.nodes[id] != nil else { return nil }
            set(id, Node(fraction: 1, isDone: true))
            return transition(id, displayNode: id, to: .cached)
        }
        update()
        return changes
    }

    mutating func started(_ id: String, displayNode: String) -> [NodeEvent] {
        let change = transition(id, displayNode: displayNode, to: .running)
        if currentNode?.hasSameBytes(as: displayNode) != true {
            currentNode = displayNode
            current = nil
        }
        update()
        return change.map { [$0] } ?? []
    }

    mutating func progressed(_ id: String, value: Double, maximum: Double) -> [NodeEvent] {
        let displayNode = displayNodes[id] ?? id
        advance(id, displayNode: displayNode, value: value, maximum: maximum)
        update()
        return []
    }

    mutating func state(_ reports: [NodeProgress]) -> [NodeEvent] {
        var changes: [NodeEvent] = []
        for report in reports {
            let displayNode = report.displayNodeID ?? report.nodeID
            switch report.state {
            case .finished:
                activities[displayNode] = nil
                changes += [transition(report.nodeID, displayNode: displayNode, to: .finished)].compactMap(\.self)
                if report.nodeID.hasSameBytes(as: displayNode) { set(displayNode, Node(fraction: 1, isDone: true)) }
            case .running:
                activities[displayNode] = report.activity?.excerpt
                changes += [transition(report.nodeID, displayNode: displayNode, to: .running)].compactMap(\.self)
                advance(report.nodeID, displayNode: displayNode, value: report.value, maximum: report.maximum)
            case .pending, .error, .other:
                break
            }
        }
        update()
        return changes
    }

    /// The run succeeded: whatever is still open is done (the parents of expanded subgraphs get no message of their own).
    mutating func completed() -> [NodeEvent] {
        let open = states.filter { $0.value == .running }.keys
        let changes = open.compactMap { transition($0.text, displayNode: displayNodes[$0] ?? $0.text, to: .finished) }
        progress = JobProgress(value: 1, nodesDone: needed.count, nodesTotal: needed.count)
        return changes
    }

    /// The progress if it differs from the one handed out before.
    mutating func takeChangedProgress() -> JobProgress? {
        guard progress != published else { return nil }
        published = progress
        return progress
    }

    private mutating func transition(_ id: String, displayNode: String, to state: NodeEvent.State) -> NodeEvent? {
        // A node that finished may run again (lazy inputs); a report of what is known is none.
        guard states[id] != state, !(state == .running && states[id] == .finished) else { return nil }
        states[id] = state
        displayNodes[id] = displayNode
        let node = workflow.nodes[id]
        return NodeEvent(node: id, displayNode: displayNode, classType: node?.classType, title: node?.title, state: state)
    }

    private mutating func advance(_ id: String, displayNode: String, value: Double, maximum: Double) {
        guard maximum > 0, value.isFinite, nodes[displayNode]?.isDone != true else { return }
        // Children of an expanded node share their parent's place, and none of them completes it.
        let fraction = min(1, max(0, value / maximum)) * (id.hasSameBytes(as: displayNode) ? 1 : 0.99)
        set(displayNode, Node(fraction: max(nodes[displayNode]?.fraction ?? 0, fraction)))
        if maximum > 1 {
            currentNode = displayNode
            current = (value, maximum)
        }
    }

    /// Keeps the sums: a graph may have thousands of nodes, each of which reports several times.
    private mutating func set(_ id: String, _ node: Node) {
        let before = nodes.updateValue(node, forKey: Name(id)) ?? Node()
        guard needed.contains(id), before != node else { return }
        weight += (node.fraction - before.fraction) * (workflow.nodes[id]?.weight ?? 0)
        doneCount += (node.isDone ? 1 : 0) - (before.isDone ? 1 : 0)
    }

    private mutating func update() {
        let node = currentNode.flatMap { workflow.nodes[$0] }
        let step = current.map { Int($0.value) }
        let steps = current.map { Int($0.maximum) }
        var message = node.map { $0.title ?? $0.classType }
        if let step, let steps, let name = message { message = "\(name) \(step)/\(steps)" }
        let activity = currentNode.flatMap { activities[$0] } ?? activities.values.last
        progress = JobProgress(
            value: max(progress.value, min(1, weight / totalWeight)), nodesDone: max(progress.nodesDone, doneCount), nodesTotal: needed.count,
            currentNode: currentNode, currentClass: node?.classType, step: step, steps: steps, message: message, activity: activity)
    }
}
