import OrderedCollections
import OrderedJSON

/// Pictures to pictures.
enum ImageNodes {
    static let all: [String: NodeBehavior] = [
        "EmptyImage": NodeBehavior { call in
            let width = try call.int("width"), height = try call.int("height"), color = try call.int("color")
            guard width * height <= Picture.maximumPixels else {
                throw NodeFailure(type: "MemoryError", message: "the simulator makes pictures of at most \(Picture.maximumPixels) pixels")
            }
            let picture = call.services.pictures.value("color \(color) \(width)x\(height)") {
                Picture(width: width, height: height, color: color)
            }
            return .values(.images(Array(repeating: picture, count: try call.int("batch_size"))))
        },
        "ImageInvert": NodeBehavior { call in .values(.images(try call.images("image").map { $0.inverted() })) },
        "ImageCropV2": NodeBehavior(since: .v0_25_0) { call in
            let region = call.json("crop_region") ?? [:]
            let cropped = try call.images("image").map { picture in
                picture.cropped(
                    x: region["x"]?.int ?? 0, y: region["y"]?.int ?? 0, width: region["width"]?.int ?? 512,
                    height: region["height"]?.int ?? 512)
            }
            let shown = try OutputNodes.preview(cropped, call)
            return .ui(["images": shown, "animated": [false]], .images(cropped))
        },
        "ImageScale": NodeBehavior { call in
            let isNearest = try call.text("upscale_method") == "nearest-exact", isCropped = try call.text("crop") == "center"
            let width = try call.int("width"), height = try call.int("height")
            return .values(
                .images(try call.images("image").map { try scale($0, width, height, isNearest: isNearest, isCropped: isCropped) }))
        },
    ]

    /// A side of 0 follows from the other one; both 0 leave the picture alone.
    private static func scale(_ picture: Picture, _ width: Int, _ height: Int, isNearest: Bool, isCropped: Bool) throws -> Picture {
        guard width > 0 || height > 0 else { return picture }
        let width = width > 0 ? width : max(1, (picture.width * height + picture.height / 2) / picture.height)
        let height = height > 0 ? height : max(1, (picture.height * width + picture.width / 2) / picture.width)
        guard width * height <= Picture.maximumPixels else {
            throw NodeFailure(type: "MemoryError", message: "the simulator makes pictures of at most \(Picture.maximumPixels) pixels")
        }
        let source = isCropped ? picture.croppedToCenter(proportionsOf: width, height) : picture
        return isNearest ? source.scaledNearest(width: width, height: height) : source.scaledBilinear(width: width, height: height)
    }
}
