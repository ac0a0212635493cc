import ArgumentParser
import Foundation
import OrderedCollections
import OrderedJSON

/// A workflow whose jobs differ in a seed, so that ComfyUI's cache holds none of them.
struct JobTemplate: Sendable {
    enum Kind: Hashable, Sendable {
        /// A sampler with one step: seven nodes, one preview, one picture.
        case oneStep
        /// No sampler: the least that makes a picture.
        case picture
        case delay(milliseconds: Int)
    }

    private let pieces: [[UInt8]]
    private static let mark = "\u{1}seed"

    init(_ kind: Kind) {
        let graph: JSON =
            switch kind {
            case .oneStep: Self.oneStep
            case .picture: ["1": Self.emptyImage, "2": Self.save("1")]
            case .delay(let milliseconds):
                [
                    "1": Self.emptyImage,
                    "2": ["class_type": "SimDelay", "inputs": ["image": ["1", 0], "milliseconds": JSON(milliseconds), "interruptible": true]],
                    "3": Self.save("2"),
                ]
            }
        self.init(marked: graph)
    }

    /// A workflow of one's own, in API format. The seeds of its samplers are replaced.
    init(file: String) throws {
        let bytes: Data
        do {
            bytes = try Data(contentsOf: URL(filePath: file))
        } catch {
            throw ValidationError("\(file) cannot be read: \(error.localizedDescription)")
        }
        guard case .object(var graph) = try? JSON(parsing: Array(bytes)) else { throw ValidationError("\(file) is no workflow: it must be a JSON object") }
        for (id, node) in graph {
            guard case .object(var members) = node, case .object(var inputs)? = members["inputs"] else { continue }
            for name in ["seed", "noise_seed"] where inputs[name]?.array == nil && inputs[name] != nil { inputs[name] = .string(Self.mark) }
            members["inputs"] = .object(inputs)
            graph[id] = .object(members)
        }
        self.init(marked: .object(graph))
    }

    private init(marked graph: JSON) {
        let text = String(decoding: graph.encoded(), as: UTF8.self)
        let mark = String(decoding: JSON.string(Self.mark).encoded(), as: UTF8.self)
        pieces = text.components(separatedBy: mark).map { Array($0.utf8) }
    }

    /// The graph. A seed below 2²⁴ is also a colour.
    func graph(seed: Int) -> [UInt8] { Array(pieces.joined(separator: Array(String(seed).utf8))) }

    func json(seed: Int) throws -> JSON { try JSON(parsing: graph(seed: seed)) }

    private static let emptyImage: JSON = [
        "class_type": "EmptyImage", "inputs": ["width": 64, "height": 64, "batch_size": 1, "color": .string(mark)],
    ]

    static func save(_ source: String) -> JSON { ["class_type": "SaveImage", "inputs": ["filename_prefix": "load", "images": [.string(source), 0]]] }

    private static let oneStep: JSON = [
        "3": [
            "class_type": "KSampler",
            "inputs": [
                "seed": .string(mark), "steps": 1, "cfg": 7.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0, "model": ["4", 0],
                "positive": ["6", 0], "negative": ["6", 0], "latent_image": ["5", 0],
            ],
        ],
        "4": ["class_type": "CheckpointLoaderSimple", "inputs": ["ckpt_name": "sd15.safetensors"]],
        "5": ["class_type": "EmptyLatentImage", "inputs": ["width": 64, "height": 64, "batch_size": 1]],
        "6": ["class_type": "CLIPTextEncode", "inputs": ["text": "a", "clip": ["4", 1]]],
        "8": ["class_type": "VAEDecode", "inputs": ["samples": ["3", 0], "vae": ["4", 2]]],
        "9": save("8"),
    ]
}

extension JobTemplate.Kind: ExpressibleByArgument {
    init?(argument: String) {
        switch argument {
        case "one-step": self = .oneStep
        case "picture": self = .picture
        default:
            guard argument.hasPrefix("delay:"), let milliseconds = Int(argument.dropFirst(6)), milliseconds >= 0 else { return nil }
            self = .delay(milliseconds: milliseconds)
        }
    }
}
