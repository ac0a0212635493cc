import OrderedJSON

/// Nodes that bring something in: models by name, files from the input folder.
enum LoaderNodes {
    static let all: [String: NodeBehavior] = [
        "CheckpointLoaderSimple": NodeBehavior { call in
            let name = try call.label("ckpt_name")
            return .values(.model(name), .clip(name), .vae(name))
        },
        "LoraLoader": NodeBehavior { call in
            let lora = try call.label("lora_name")
            return .values(.model("\(try call.label("model"))+\(lora)"), .clip("\(try call.label("clip"))+\(lora)"))
        },
        "CLIPTextEncode": NodeBehavior { call in .values(.conditioning(try call.text("text"))) },
        "PrimitiveStringMultiline": NodeBehavior(since: .v0_25_0) { call in .values(.plain(.string(try call.text("value")))) },
        "LoadImage": NodeBehavior(fileInput: "image") { call in try load(call) },
        "LoadImageOutput": NodeBehavior(fileInput: "image") { call in try load(call) },
        "LoadImageMask": NodeBehavior(fileInput: "image") { call in
            let picture = try read(call)
            let channel = ["red": 0, "green": 1, "blue": 2][try call.text("channel")]
            let mask: [UInt8] =
                if let channel {
                    (0..<picture.width * picture.height).map { picture.pixels[$0 * picture.channels + channel] }
                } else {
                    picture.alpha().map { 255 - $0 }
                }
            return .values(.masks([gray(mask, width: picture.width, height: picture.height)]))
        },
    ]

    private static func load(_ call: NodeCall) throws -> NodeResult {
        let picture = try read(call)
        // Without alpha the mask is a small black one, as there.
        let mask =
            picture.channels == 4
            ? gray(picture.alpha().map { 255 - $0 }, width: picture.width, height: picture.height)
            : Picture(width: 64, height: 64, color: 0)
        return .values(.images([picture.withoutAlpha()]), .masks([mask]))
    }

    private static func read(_ call: NodeCall) throws -> Picture {
        let name = try call.text("image")
        let path = call.services.folders.path(ofAnnotated: name)
        guard let file = OpenFile(path: path) else {
            throw NodeFailure(type: "FileNotFoundError", message: "[Errno 2] No such file or directory: '\(path)'")
        }
        do {
            return try Picture.decode(file.readAll())
        } catch {
            throw NodeFailure(type: "PIL.UnidentifiedImageError", message: "cannot identify image file '\(path)'")
        }
    }

    private static func gray(_ values: [UInt8], width: Int, height: Int) -> Picture {
        Picture(width: width, height: height, pixels: values.flatMap { [$0, $0, $0] })
    }
}
