import OrderedCollections
import OrderedJSON

/// Nodes whose results leave the graph.
enum OutputNodes {
    static let all: [String: NodeBehavior] = [
        "SaveImage": NodeBehavior(handsOn: "images") { call in
            .ui(["images": try save(try call.images("images"), prefix: try call.text("filename_prefix"), kind: .output, call)])
        },
        "PreviewImage": NodeBehavior(handsOn: "images") { call in .ui(["images": try preview(try call.images("images"), call)]) },
        "SaveAnimatedWEBP": NodeBehavior(handsOn: "images") { call in
            let pictures = try call.images("images")
            let file = try WebP.encode(animation: pictures, milliseconds: Int(1000 / max(0.01, try call.float("fps"))))
            let size = pictures.first.map { ($0.width, $0.height) } ?? (0, 0)
            let items = try write([file], "webp", prefix: try call.text("filename_prefix"), kind: .output, size: size, call)
            return .ui(["images": items, "animated": [JSON(pictures.count != 1)]])
        },
        "SaveImageWebsocket": NodeBehavior(isCached: false) { call in
            let pictures = try call.images("images")
            for (index, picture) in pictures.enumerated() {
                try call.progress(index, of: pictures.count, preview: Preview(format: .png) { try picture.png() })
            }
            return NodeResult()
        },
        "SaveLatent": NodeBehavior(handsOn: "samples") { call in
            let file = SampleFile.latent(try call.latent("samples"))
            return .ui([
                "latents": try write([file], "latent", prefix: try call.text("filename_prefix"), kind: .output, size: (0, 0), call)
            ])
        },
        "SaveText": NodeBehavior(since: .v0_33_0, handsOn: "text") { call in
            let text = try call.text("text")
            let files = try write([Array(text.utf8)], try call.text("format"), prefix: try call.text("filename_prefix"), kind: .output, size: (0, 0), isOpen: true, call)
            return .ui(["text": [.string(text)], "files": files])
        },
        "PreviewAny": NodeBehavior { call in
            let text = try call.value("source").pythonText
            return .ui(["text": [.string(text)]], .plain(.string(text)))
        },
    ]

    /// Saves into temp, under the node's own name.
    static func preview(_ pictures: [Picture], _ call: NodeCall) throws -> JSON {
        try save(pictures, prefix: "ComfyUI_temp_\(call.run.letters(of: call.nodeID))", kind: .temp, call)
    }

    /// Writes a PNG per picture, with the graph in its text chunks.
    ///
    /// - Returns: the list of files for `ui`.
    private static func save(_ pictures: [Picture], prefix: String, kind: Folders.Kind, _ call: NodeCall) throws -> JSON {
        let texts = call.run.pictureTexts
        let size = pictures.first.map { ($0.width, $0.height) } ?? (0, 0)
        return try write(try pictures.map { PNG.adding(texts, to: try $0.png()) }, "png", prefix: prefix, kind: kind, size: size, call)
    }

    private static func write(
        _ files: [[UInt8]], _ fileExtension: String, prefix: String, kind: Folders.Kind, size: (width: Int, height: Int), isOpen: Bool = false,
        _ call: NodeCall
    ) throws -> JSON {
        let slot = try call.services.names.reserve(files.count, prefix: prefix, kind: kind, width: size.width, height: size.height)
        var items: [JSON] = []
        for (index, file) in files.enumerated() {
            let name = slot.name(inBatch: index, fileExtension: fileExtension, isOpen: isOpen)
            try Folders.write(file, to: slot.folder + "/" + name)
            items.append(["filename": .string(name), "subfolder": .string(slot.subfolder), "type": .string(kind.rawValue)])
        }
        return .array(items)
    }
}
