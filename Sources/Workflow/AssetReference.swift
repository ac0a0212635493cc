package import OrderedCollections
package import OrderedJSON

/// `{"__type": "core/ASSET", "info": {"id": …}}`, which the Comfy API v2 lets stand anywhere in a workflow where ComfyUI wants the name of a file.
enum AssetReference {
    /// The id of the asset; nil for what is no reference. One without an id refers to nothing, and is named by its text.
    static func id(in value: JSON) -> String? {
        // What ComfyUI unwraps is a wrapper, whatever else it has.
        guard let members = value.object, members["__type"] == "core/ASSET", members["__value__"] == nil else { return nil }
        return members["info"]?["id"]?.string ?? value.text
    }
}

/// Where a workflow reads an asset.
package enum AssetPlace: Sendable, Hashable {
    /// Wherever this id is referred to.
    case reference(id: Name)
    /// An input that names a file which was uploaded to the bridge.
    case input(node: Name, name: Name)
}

extension Workflow {
    /// The ids of all assets referred to, in the order of their appearance.
    package var referencedAssets: OrderedSet<Name> {
        var ids: OrderedSet<Name> = []
        func search(_ value: JSON) {
            if let id = AssetReference.id(in: value) {
                ids.append(Name(id))
            } else if let members = value.object {
                members.values.forEach(search)
            } else if let elements = value.array {
                elements.forEach(search)
            }
        }
        for node in nodes.values { node.inputs.values.forEach(search) }
        return ids
    }

    /// The graph with these names of files in place of assets.
    package func text(with names: [AssetPlace: String]) throws(JSONSyntaxError) -> [UInt8] {
        guard !names.isEmpty else { return text }
        func replaced(_ value: JSON) -> JSON {
            if let id = AssetReference.id(in: value) { return names[.reference(id: Name(id))].map(JSON.string) ?? value }
            if let members = value.object { return .object(members.mapValues(replaced)) }
            if let elements = value.array { return .array(elements.map(replaced)) }
            return value
        }
        var graph = try JSON(parsing: text).object ?? [:]
        for (id, node) in graph {
            guard var members = node.object, let inputs = members["inputs"]?.object else { continue }
            var changed: JSONObject = [:]
            for (name, value) in inputs { changed[name] = names[.input(node: Name(id), name: Name(name))].map(JSON.string) ?? replaced(value) }
            members["inputs"] = .object(changed)
            graph[id] = .object(members)
        }
        return JSON.object(graph).encoded()
    }
}
