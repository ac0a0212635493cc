import FoundationEssentials
import OrderedCollections
import OrderedJSON

/// Nodes that no ComfyUI has, in category `simulator`: they bring about what clients have to cope with.
enum RehearsalNodes {
    static let all: [String: NodeBehavior] = [
        "SimDelay": NodeBehavior { call in
            try call.pause(.milliseconds(try call.int("milliseconds")), interruptible: call.json("interruptible")?.bool ?? true)
            return .values(try call.value("image"))
        },
        "SimRaise": NodeBehavior { call in
            let steps = try call.int("steps")
            for step in 0..<max(0, steps) { try call.progress(step + 1, of: steps + 2) }
            throw NodeFailure(message: try call.text("message"))
        },
        "SimBlock": NodeBehavior { call in
            let message = try call.text("message")
            return .values(.blocked(message: message.isEmpty ? nil : message))
        },
        "SimProgressText": NodeBehavior { call in
            call.sendProgressText(try call.text("text"), toAll: call.json("broadcast")?.bool ?? true)
            return .values(try call.value("image"))
        },
        "SimPreviews": NodeBehavior { call in try previews(call) },
        "SimOutput": NodeBehavior { call in try output(call) },
        "SimExpand": NodeBehavior { call in try expand(call) },
    ]

    /// Stamped previews by the clock: one that is late does not make the next ones late.
    private static func previews(_ call: NodeCall) throws -> NodeResult {
        let frames = try call.int("frames"), rate = try call.float("per_second"), bytes = try call.int("bytes")
        let begin = ContinuousClock.now
        for number in 0..<frames {
            let wait = rate > 0 ? begin + .seconds(Double(number) / rate) - .now : .zero
            if wait > .zero { try call.pause(wait) }
            try call.progress(
                number + 1, of: frames,
                preview: Preview(format: .jpeg) { try StampedPreviews.file(bytes: bytes, number: number, services: call.services) })
        }
        return .values(try call.value("image"))
    }

    /// A graph of samplers in a row, a scaler, and maybe a preview or a failure.
    private static func expand(_ call: NodeCall) throws -> NodeResult {
        let seed = try call.text("seed"), message = try call.text("message")
        var graph: JSONObject = [:]
        var number = 0
        func add(_ name: String, _ inputs: JSON) -> Link {
            number += 1
            let id = call.childID(number)
            graph[id] = ["class_type": .string(name), "inputs": inputs]
            return Link(node: id, slot: 0)
        }
        var last: Link?
        for index in 0..<max(1, try call.int("count")) {
            let steps = message.isEmpty ? 2 : 1
            var inputs: JSONObject = [
                "seed": .string("\(seed)/\(index)"), "steps": JSON(steps), "delay_ms": 0, "width": 64, "height": 64, "batch_size": 1,
            ]
            if let last { inputs["image"] = last.json }
            last = add("SimSampler", .object(inputs))
        }
        guard let sampled = last else { return NodeResult() }
        if !message.isEmpty {
            let failing = add("SimRaise", ["image": sampled.json, "steps": 1, "message": .string(message)])
            return NodeResult(expansion: Expansion(graph: graph, outputs: [failing]))
        }
        let scaled = add(
            "ImageScale", ["image": sampled.json, "upscale_method": "nearest-exact", "width": 32, "height": 32, "crop": "disabled"])
        if call.json("with_preview")?.bool ?? false { _ = add("PreviewImage", ["images": scaled.json]) }
        return NodeResult(expansion: Expansion(graph: graph, outputs: [scaled]))
    }

    /// The `ui` object as given; each item with a `filename` becomes a file, and the path at the beginning of `result`, as Save3DAdvanced has it.
    private static func output(_ call: NodeCall) throws -> NodeResult {
        let text = try call.text("output")
        guard let parsed = try? JSON(parsing: text, lenient: true), let ui = parsed.object else {
            throw NodeFailure(type: "ValueError", message: "SimOutput: 'output' must be a JSON object, like {\"text\": [\"hello\"]}")
        }
        let bytes = try call.int("bytes")
        var items = ui.values.flatMap { $0.array ?? [] }
        if let path = ui["result"]?[0]?.string {
            let parts = path.split(separator: "/")
            items.append([
                "filename": .string(parts.last.map(String.init) ?? ""), "subfolder": .string(parts.dropLast().joined(separator: "/")),
                "type": path.hasPrefix("preview3d_advanced_") ? "temp" : "output",
            ])
        }
        for item in items {
            guard let name = item["filename"]?.string else { continue }
            let kind = Folders.Kind(rawValue: item["type"]?.string ?? "output") ?? .output
            guard let folder = call.services.folders.subfolder(item["subfolder"]?.string ?? "", of: kind), !name.contains("/") else {
                throw NodeFailure(type: "ValueError", message: "SimOutput: '\(name)' leads outside of the \(kind.rawValue) folder")
            }
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            try SampleFile.write(folder + "/" + name, bytes: bytes)
        }
        return .ui(ui)
    }
}
