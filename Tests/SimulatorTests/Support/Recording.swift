import Foundation
import OrderedCollections
import OrderedJSON

@testable import Simulator

/// A recording of real ComfyUI, one event per line. The files are the fixtures of ComfyUITests.
struct Recording {
    let name: String
    let events: [JSON]

    /// - Parameter name: like `cached_full`, or `v0.25/cached_full`.
    init(_ name: String) throws {
        self.name = name
        let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        let text = try Data(contentsOf: folder.appendingPathComponent("ComfyUITests/Recordings/\(name).jsonl"))
        events = try text.split(separator: UInt8(ascii: "\n")).map { try JSON(parsing: $0, lenient: true) }
    }
}

extension ComfySimulator.Compatibility {
    /// The version that was recorded.
    static func of(_ recording: String) -> Self {
        recording.hasPrefix("v0.33/") ? .v0_33_0 : recording.hasPrefix("v0.25/") ? .v0_25_0 : .v0_3_64
    }
}

extension JSON {
    var event: String { self["ev"]?.string ?? "" }

    /// The body of a recorded request or response.
    var recordedBody: [UInt8] {
        if let text = self["body_text"]?.string { return Array(text.utf8) }
        return self["body_base64"]?.string.flatMap { Data(base64Encoded: $0) }.map { [UInt8]($0) } ?? []
    }

    /// A recorded frame.
    var recordedMessage: SocketMessage {
        if let text = self["text"]?.string { return .text((try? JSON(parsing: text, lenient: true)) ?? .null) }
        return .binary(self["base64"]?.string.flatMap { Data(base64Encoded: $0) }.map { [UInt8]($0) } ?? [])
    }
}

/// Recorded graphs use test nodes of their own; these are the simulator's that do the same.
enum RecordedGraph {
    /// Any JSON with nodes in it.
    static func translated(_ json: JSON) -> JSON {
        switch json {
        case .array(let elements): return .array(elements.map(translated))
        case .object(let members):
            if let name = members["class_type"]?.string, let node = node(name, members["inputs"] ?? [:]) { return node }
            var result: JSONObject = [:]
            for (key, value) in members {
                result[key] = key == "node_type" ? value.string.map { .string(className($0)) } ?? value : translated(value)
            }
            return .object(result)
        case .null, .bool, .number, .string: return json
        }
    }

    private static func className(_ recorded: String) -> String {
        switch recorded {
        case "RecSampler": "SimSampler"
        case "RecSleep": "SimDelay"
        case "RecRaise": "SimRaise"
        case "RecBlock": "SimBlock"
        case "RecExpand", "RecExpandRaise": "SimExpand"
        case "RecText", "RecOddUI": "SimOutput"
        default: recorded
        }
    }

    private static func node(_ name: String, _ inputs: JSON) -> JSON? {
        func input(_ name: String) -> JSON { inputs[name] ?? .null }
        let translated: JSON
        switch name {
        case "RecSampler":
            translated = [
                "seed": .string(input("seed").number?.literal ?? ""), "steps": input("steps"), "delay_ms": input("delay_ms"), "width": 64,
                "height": 64,
                "batch_size": input("batch"),
            ]
        case "RecSleep":
            translated = ["image": input("image"), "milliseconds": input("ms"), "interruptible": input("interruptible")]
        case "RecRaise", "RecBlock":
            translated = inputs
        case "RecExpand":
            translated = [
                "seed": .string(input("seed").number?.literal ?? ""), "count": input("count"), "with_preview": input("with_preview"),
                "message": "",
            ]
        case "RecExpandRaise":
            translated = [
                "seed": .string(input("seed").number?.literal ?? ""), "count": 1, "with_preview": false,
                "message": "failure inside an expanded node",
            ]
        case "RecText":
            translated = ["output": .string(JSON.object(["text": [input("text")]]).text), "bytes": 0]
        default:
            return nil
        }
        return ["class_type": .string(className(name)), "inputs": translated]
    }
}
