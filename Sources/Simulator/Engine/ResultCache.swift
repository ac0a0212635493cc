import Crypto
import OrderedCollections
import OrderedJSON

/// Results of nodes by what they were made from: class, values and the same of everything upstream. Ids and clients do not matter
/// (protocol section 12, "What stays cached"). Used by the worker thread only.
struct ResultCache {
    struct Entry {
        let values: [NodeValue]
        let ui: JSONObject?
        /// `meta` of the run that made it.
        let meta: JSONObject
    }

    private let policy: ComfySimulator.CachePolicy
    private var entries: [String: Entry] = [:]
    /// The current graph's keys; a node that is never cached has none.
    private var keys: [String: String] = [:]

    init(policy: ComfySimulator.CachePolicy) { self.policy = policy }

    subscript(nodeID: String) -> Entry? {
        get { keys[nodeID].flatMap { entries[$0] } }
        set { if let key = keys[nodeID], policy != .nothing { entries[key] = newValue } }
    }

    mutating func removeAll() { entries = [:] }

    /// Takes over the graph of the next run; what it has no use for is dropped, unless the policy is to keep.
    mutating func prepare(_ graph: JSONObject, services: RunServices) {
        var keying = Keying(graph: graph, services: services)
        keys = [:]
        for id in graph.keys { keys[id] = keying.key(of: id) }
        switch policy {
        case .latestGraph:
            let used = Set(keys.values)
            entries = entries.filter { used.contains($0.key) }
        case .everything:
            if entries.count > 1_000 { entries = [:] }
        case .nothing:
            entries = [:]
        }
    }

    /// Nodes that were generated in this run; they live as long as it.
    mutating func addGenerated(_ graph: JSONObject, within whole: JSONObject, services: RunServices) {
        var keying = Keying(graph: whole, services: services)
        for id in graph.keys { keys[id] = keying.key(of: id) }
    }
}

private struct Keying {
    let graph: JSONObject
    let services: RunServices
    private var known: [String: String?] = [:]

    init(graph: JSONObject, services: RunServices) {
        self.graph = graph
        self.services = services
    }

    /// Nil for a node that is never cached or hangs on one.
    mutating func key(of id: String) -> String? {
        if let key = known[id] { return key }
        known[id] = .some(nil)  // a cycle, which validation refuses where it matters
        guard let node = graph[id], let name = node["class_type"]?.string, let nodeClass = services.catalog[name],
            nodeClass.behavior.isCached
        else { return nil }
        var parts = name
        for (input, value) in (node["inputs"]?.object ?? [:]).sorted(by: { $0.key < $1.key }) {
            parts += "\u{1F}\(input)="
            if let link = Link(value) {
                guard let upstream = key(of: link.node) else { return nil }
                parts += "\(upstream)#\(link.slot)"
            } else {
                parts += value.text
            }
        }
        if let input = nodeClass.behavior.fileInput, let file = node["inputs"]?[input]?.string {
            parts += "\u{1F}" + services.folders.fingerprint(ofAnnotated: file)
        }
        let key = SHA256.hash(data: Array(parts.utf8)).withUnsafeBytes { digest in
            String(digest.loadUnaligned(as: UInt64.self), radix: 36)
                + String(digest.loadUnaligned(fromByteOffset: 8, as: UInt64.self), radix: 36)
        }
        known[id] = key
        return key
    }
}
