import OrderedCollections
import OrderedJSON

/// Every node class that the simulator runs, with its `object_info`.
struct NodeCatalog: Sendable {
    private let classes: OrderedDictionary<String, NodeClass>
    private let compatibility: ComfySimulator.Compatibility

    /// - Parameter checkpoints: the names that CheckpointLoaderSimple offers.
    init(compatibility: ComfySimulator.Compatibility, checkpoints: [String]) {
        self.compatibility = compatibility
        guard let sample = try? JSON(parsing: PackageResources.object_info_json), case .object(var entries) = sample else {
            preconditionFailure("the embedded object_info.json is not JSON")
        }
        Self.setChoices(checkpoints, of: "ckpt_name", in: "CheckpointLoaderSimple", &entries)
        let behaviors = LoaderNodes.all.merging(SamplingNodes.all) { $1 }.merging(ImageNodes.all) { $1 }.merging(OutputNodes.all) { $1 }
            .merging(RehearsalNodes.all) { $1 }
        var classes: OrderedDictionary<String, NodeClass> = [:]
        for (name, info) in entries {
            guard let behavior = behaviors[name], let info = info.object else { continue }
            guard compatibility >= behavior.since else { continue }
            classes[name] = NodeClass(name: name, info: Self.handingOn(behavior.handsOn, info, compatibility), behavior: behavior)
        }
        precondition(behaviors.keys.allSatisfy { entries[$0] != nil }, "a class has a behavior but no object_info")
        self.classes = classes
    }

    subscript(name: String) -> NodeClass? { classes[name] }
    var names: [String] { Array(classes.keys) }

    /// The entry that `/object_info` shows now; file choices are read from disk at call time, as there.
    func info(_ name: String, folders: Folders) -> JSON? {
        guard let nodeClass = classes[name] else { return nil }
        var entries: JSONObject = [name: .object(nodeClass.info)]
        if let input = nodeClass.behavior.fileInput { Self.setChoices(folders.files(.input), of: input, in: name, &entries) }
        guard compatibility >= .v0_25_0, case .object(let info)? = entries[name], info["is_input_list"] == nil else { return entries[name] }
        var extended: JSONObject = [:]
        let renamed = ["EmptyImage": "Empty Image"]
        for (key, value) in info {
            if key == "output" { extended["is_input_list"] = false }
            extended[key] = key == "display_name" ? renamed[name].map(JSON.string) ?? value : value
            if key == "output_node" {
                extended["has_intermediate_output"] = false
                extended["search_aliases"] = []
            }
        }
        return .object(extended)
    }

    /// From 0.33 on nodes that save or show hand on their input.
    private static func handingOn(_ input: String?, _ info: JSONObject, _ compatibility: ComfySimulator.Compatibility) -> JSONObject {
        guard let input, compatibility >= .v0_33_0, let type = info["input"]?["required"]?[input]?[0] else { return info }
        return info.merging(["output": [type], "output_is_list": [false], "output_name": [.string(input)]]) { $1 }
    }

    /// Replaces a choice list in its old form, keeping the options behind it.
    private static func setChoices(_ choices: [String], of input: String, in name: String, _ entries: inout JSONObject) {
        guard case .object(var entry)? = entries[name], case .object(var groups)? = entry["input"],
            case .object(var required)? = groups["required"], case .array(var config)? = required[input], config.first?.array != nil
        else { return }
        config[0] = .array(choices.map(JSON.string))
        required[input] = .array(config)
        groups["required"] = .object(required)
        entry["input"] = .object(groups)
        entries[name] = .object(entry)
    }
}
