package import OrderedCollections
package import OrderedJSON

/// An API-format graph that is safe to hand to ComfyUI: every node has a string `class_type` and object `inputs`
/// (protocol section 13: a node without `inputs` kills ComfyUI's worker thread).
package struct Workflow: Sendable {
    /// A class, so that who looks through a large graph counts one reference a node, and not those of all its parts.
    package final class Node: Sendable {
        package let classType: String
        /// `_meta.title`, which the editor writes.
        package let title: String?
        /// As the node gets them: taken out of `{"__value__": …}`.
        package let inputs: JSONObject
        /// Inputs that are links (`["<node id>", <output index>]`).
        package let links: [Link]

        /// What the node counts for in a job's progress: 1, and 1 more per sampling step.
        package var weight: Double { 1 + Double(max(0, min(inputs["steps"]?.int ?? 0, 10_000))) }

        fileprivate init(id: String, _ value: JSON) throws(NodeFlaw) {
            guard id.utf8.count <= Workflow.nameLimit else { throw .longID }
            guard let members = value.object else { throw .noObject }
            guard let classType = members["class_type"]?.string, !classType.isEmpty else { throw .noClass }
            guard classType.utf8.count <= Workflow.nameLimit else { throw .longClass }
            guard let inputs = members["inputs"]?.object else { throw .noInputs }
            guard inputs.names.allSatisfy({ $0.text.utf8.count <= Workflow.nameLimit }) else { throw .longInputName }
            self.classType = classType
            self.inputs = inputs.values.contains { $0["__value__"] != nil } ? inputs.mapValues(\.unwrapped) : inputs
            title = members["_meta"]?["title"]?.string?.excerpt
            links = self.inputs.compactMap { Link(input: $0, $1) }
        }
    }

    package struct Link: Sendable, Equatable {
        package let input: String
        package let source: String
        package let output: Int

        init(input: String, source: String, output: Int) {
            self.input = input
            self.source = source
            self.output = output
        }

        /// Nil for a value that is no link. What Python takes for a number is one, also `true`, or a link could hide from the checks; one that is
        /// no place in a list becomes -1.
        init?(input: String, _ value: JSON) {
            guard let pair = value.array, pair.count == 2, let source = pair[0].string else { return nil }
            switch pair[1] {
            case .number(let number): self.init(input: input, source: source, output: number.int ?? -1)
            case .bool(let isOne): self.init(input: input, source: source, output: isOne ? 1 : 0)
            default: return nil
            }
        }
    }

    /// Bytes of an id, a class or the name of an input.
    static let nameLimit = 512

    /// The graph as JSON text, key order and digits as they came.
    package let text: [UInt8]
    /// Empty once the job has ended: then only the text is kept, which is a fraction of the size.
    package private(set) var nodes: OrderedDictionary<Name, Node>
    /// Of the nodes; they are few, however many nodes there are.
    package private(set) var classTypes: Set<Name>

    /// Checks the structure; what only ComfyUI's node list can tell is `NodeCatalog.faults(in:)`.
    ///
    /// - Parameter size: about that of the text, which saves its growing.
    package init(checking value: JSON, size: Int = 256) throws(WorkflowError) {
        guard let graph = value.object else { throw .notAGraph(found: value.kindInWords) }
        if graph["nodes"]?.array != nil, graph["links"] != nil || graph["version"] != nil || graph["last_node_id"] != nil {
            throw .editorFormat
        }
        guard !graph.isEmpty else { throw .invalid([.init(reason: "prompt_no_outputs", message: "The workflow has no nodes.")]) }
        var nodes = OrderedDictionary<Name, Node>(minimumCapacity: graph.count)
        var faults = WorkflowFaults()
        for (id, value) in graph {
            do { nodes[id] = try Node(id: id, value) } catch { faults.append(error.fault(of: id, value)) }
        }
        guard faults.isEmpty else { throw .invalid(faults) }
        text = value.encoded(size: size)
        self.nodes = nodes
        classTypes = Set(nodes.values.lazy.map { Name($0.classType) })
    }

    package mutating func keepTextOnly() { self = Workflow(textOnly: text) }

    /// Stands for a workflow whose text is in the job's store, and not in memory.
    package static let onDisk = Workflow(textOnly: [])

    private init(textOnly text: [UInt8]) {
        self.text = text
        nodes = [:]
        classTypes = []
    }

    /// The nodes that the given ones need, themselves included.
    package func reachable(from targets: some Sequence<Name>) -> Set<Name> {
        var reached: Set<Name> = []
        var open = Array(targets)
        while let id = open.popLast() {
            guard let node = nodes[id], reached.insert(id).inserted else { continue }
            open.append(contentsOf: node.links.lazy.map { Name($0.source) })
        }
        return reached
    }
}

/// What a node lacks, or has too much of.
private enum NodeFlaw: Error {
    case longID, noObject, noClass, longClass, noInputs, longInputName

    package func fault(of id: String, _ value: JSON) -> WorkflowFault {
        let (id, classType, limit) = (id.excerpt, value["class_type"]?.string?.excerpt, Workflow.nameLimit)
        switch self {
        case .longID: return WorkflowFault(node: id, reason: "invalid_node", message: "The id of node '\(id)' has more than \(limit) bytes.")
        case .noObject:
            return WorkflowFault(node: id, reason: "invalid_node", message: "Node '\(id)' is \(value.kindInWords); write an object with class_type and inputs.")
        case .noClass:
            return WorkflowFault(
                node: id, field: "class_type", reason: "missing_class_type",
                message: "Node '\(id)' has no class_type; write the name of the node's class, for example \"KSampler\".")
        case .longClass:
            return WorkflowFault(
                node: id, field: "class_type", reason: "missing_node_type", classType: classType,
                message: "The class_type of node '\(id)' has more than \(limit) bytes; write the name of the node's class.")
        case .noInputs:
            return WorkflowFault(
                node: id, field: "inputs", reason: "missing_inputs", classType: classType,
                message: "Node '\(id)' (\(classType ?? "")) has no inputs object; write \"inputs\": {} for a node without inputs.")
        case .longInputName:
            let name = value["inputs"]?.object?.names.first { $0.text.utf8.count > limit }?.text.excerpt ?? ""
            return WorkflowFault(
                node: id, field: name, reason: "invalid_input_name", classType: classType,
                message: "The input '\(name)' of node '\(id)' (\(classType ?? "")) has a name with more than \(limit) bytes.")
        }
    }
}

/// One thing that is wrong with a workflow.
package struct WorkflowFault: Error, Sendable, Equatable {
    // All of these are excerpts: they are what a caller wrote.

    /// Nil for a fault of the workflow as a whole.
    package let node: String?
    package let field: String?
    /// ComfyUI's error type where it has one (protocol section 2.4), such as `required_input_missing`.
    package let reason: String
    package let classType: String?
    /// A sentence for the caller, without paths of the server.
    package let message: String

    package init(node: String? = nil, field: String? = nil, reason: String, classType: String? = nil, message: String) {
        self.node = node?.excerpt
        self.field = field?.excerpt
        self.reason = reason.excerpt
        self.classType = classType?.excerpt
        self.message = message.excerptOfMessage
    }
}

extension WorkflowFault {
    /// Each of its classes is known to some ComfyUI, all of them to none.
    package static let scattered = WorkflowFault(
        reason: "missing_node_type",
        message: "No single ComfyUI has all node classes of the workflow; install the missing node packs on one of them.")
}

package enum WorkflowError: Error, Sendable, Equatable {
    case notAGraph(found: String)
    /// The editor's own format (`nodes` and `links`), which ComfyUI's API answers with a plain 500.
    case editorFormat
    case invalid(WorkflowFaults)
}
