import OrderedCollections
import OrderedJSON

/// Nodes whose results leave the graph.
enum OutputNodes {
    static let all: [String: NodeBehavior] = [
        "SaveImage": NodeBehavior { call in
            try save(try call.images("images"), prefix: try call.text("filename_prefix"), kind: .output, call)
        },
        "PreviewImage": NodeBehavior { call in
            try save(try call.images("images"), prefix: "ComfyUI_temp_\(call.run.letters(of: call.nodeID))", kind: .temp, call)
        },
        "SaveImageWebsocket": NodeBehavior(isCached: false) { call in
            let pictures = try call.images("images")
            for (index, picture) in pictures.enumerated() {
                try call.progress(index, of: pictures.count, preview: Preview(format: .png) { try picture.png() })
            }
            return NodeResult()
        },
        "SaveLatent": NodeBehavior { call in
            let latent = try call.latent("samples")
            let slot = try call.services.names.reserve(1, prefix: try call.text("filename_prefix"), kind: .output, width: 0, height: 0)
            let name = slot.name(inBatch: 0, fileExtension: "latent")
            try Folders.write(SampleFile.latent(latent), to: slot.folder + "/" + name)
            return .ui(["latents": [["filename": .string(name), "subfolder": .string(slot.subfolder), "type": "output"]]])
        },
        "PreviewAny": NodeBehavior { call in
            let text = try call.value("source").pythonText
            return .ui(["text": [.string(text)]], .plain(.string(text)))
        },
    ]

    /// Writes a PNG per picture, with the graph in its text chunks.
    private static func save(_ pictures: [Picture], prefix: String, kind: Folders.Kind, _ call: NodeCall) throws -> NodeResult {
        let size = pictures.first.map { ($0.width, $0.height) } ?? (0, 0)
        let slot = try call.services.names.reserve(pictures.count, prefix: prefix, kind: kind, width: size.0, height: size.1)
        let texts = call.run.pictureTexts
        var items: [JSON] = []
        for (index, picture) in pictures.enumerated() {
            let name = slot.name(inBatch: index, fileExtension: "png")
            try Folders.write(PNG.adding(texts, to: try picture.png()), to: slot.folder + "/" + name)
            items.append(["filename": .string(name), "subfolder": .string(slot.subfolder), "type": .string(kind.rawValue)])
        }
        return .ui(["images": .array(items)])
    }
}
