import OrderedCollections
import OrderedJSON

/// Which node runs next: ComfyUI's list of pending nodes, its counts of what blocks them, and its taste in picking one that is ready.
///
/// Output nodes first, then what directly feeds one, then what feeds that, else the oldest entry. The order in which nodes enter the list
/// is a depth-first walk from the outputs. Both are copied, because the recorded orders come from them.
struct ExecutionOrder {
    private var pending: OrderedSet<String> = []
    private var blockers: [String: Int] = [:]
    /// Who waits for a node.
    private var waiting: [String: OrderedSet<String>] = [:]

    var isEmpty: Bool { pending.isEmpty }

    /// Adds a node and everything it needs that is neither here nor cached.
    mutating func add(_ id: String, graph: ExecutionGraph, isCached: (String) -> Bool) {
        var stack = [id]
        var links: [(from: String, to: String)] = []
        while let id = stack.popLast() {
            guard pending.append(id).inserted else { continue }
            blockers[id] = 0
            waiting[id] = []
            for upstream in graph.links(of: id) {
                if !isCached(upstream.node) { stack.append(upstream.node) }
                links.append((upstream.node, id))
            }
        }
        for link in links { block(link.to, by: link.from, graph: graph, isCached: isCached) }
    }

    /// `id` cannot run before `upstream` has; a cached upstream blocks nothing.
    mutating func block(_ id: String, by upstream: String, graph: ExecutionGraph, isCached: (String) -> Bool) {
        guard !isCached(upstream) else { return }
        add(upstream, graph: graph, isCached: isCached)
        if waiting[upstream, default: []].append(id).inserted { blockers[id, default: 0] += 1 }
    }

    /// Nil when nodes are left but none is ready (a cycle).
    func next(graph: ExecutionGraph) -> String? {
        let ready = pending.filter { blockers[$0] == 0 }
        if let output = ready.first(where: graph.isOutput) { return output }
        if let feeder = ready.first(where: { id in waiting[id, default: []].contains(where: graph.isOutput) }) { return feeder }
        let second = ready.first { id in
            waiting[id, default: []].contains { blocked in waiting[blocked, default: []].contains(where: graph.isOutput) }
        }
        return second ?? ready.first
    }

    mutating func complete(_ id: String) {
        pending.remove(id)
        for blocked in waiting.removeValue(forKey: id) ?? [] { blockers[blocked, default: 1] -= 1 }
    }
}

/// The submitted graph and what nodes added to it at run time.
struct ExecutionGraph {
    private(set) var nodes: JSONObject
    private(set) var classes: [String: NodeClass] = [:]
    private let catalog: NodeCatalog
    /// Of a generated node: the node whose expansion it is part of.
    private var parents: [String: String] = [:]

    init(_ nodes: JSONObject, catalog: NodeCatalog) {
        self.nodes = nodes
        self.catalog = catalog
        for (id, node) in nodes { classes[id] = node["class_type"]?.string.flatMap { catalog[$0] } }
    }

    mutating func add(_ generated: JSONObject, parent: String) {
        for (id, node) in generated {
            nodes[id] = node
            classes[id] = node["class_type"]?.string.flatMap { catalog[$0] }
            parents[id] = parent
        }
    }

    func isOutput(_ id: String) -> Bool { classes[id]?.isOutput ?? false }
    func className(_ id: String) -> String { nodes[id]?["class_type"]?.string ?? "" }
    func inputs(_ id: String) -> JSONObject { nodes[id]?["inputs"]?.object ?? [:] }
    func links(of id: String) -> [Link] { inputs(id).values.compactMap { Link($0) } }

    /// The node of the submitted graph that a node belongs to, which also stands for it on the screen.
    func realID(_ id: String) -> String {
        var id = id
        while let parent = parents[id] { id = parent }
        return id
    }

    func identity(_ id: String) -> NodeIdentity { NodeIdentity(id: id, parent: parents[id], real: realID(id)) }
}

/// A node's four names.
struct NodeIdentity {
    let id: String
    /// The node that generated it.
    let parent: String?
    let real: String

    /// As in the history's `meta`.
    var meta: JSONObject {
        ["node_id": .string(id), "display_node": .string(real), "parent_node": .optional(parent), "real_node_id": .string(real)]
    }
}
