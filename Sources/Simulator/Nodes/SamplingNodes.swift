import OrderedJSON

/// Latents, samplers and decoders. A sampler's picture is a `Scene`; its previews come out of noise towards it.
enum SamplingNodes {
    static let all: [String: NodeBehavior] = [
        "EmptyLatentImage": NodeBehavior { call in
            .values(
                .latent(
                    Latent(width: try call.int("width"), height: try call.int("height"), batch: try call.int("batch_size"), content: .empty)
                ))
        },
        "KSampler": NodeBehavior { call in try sample(call, seed: "seed", denoise: Float(try call.float("denoise"))) },
        "KSamplerAdvanced": NodeBehavior { call in try sample(call, seed: "noise_seed", denoise: 1) },
        "VAEDecode": NodeBehavior { call in .values(.images(try decode(try call.latent("samples"), services: call.services))) },
        "VAEEncode": NodeBehavior { call in
            let pictures = try call.images("pixels")
            guard let first = pictures.first else { throw NodeFailure(message: "there is no picture to encode") }
            return .values(.latent(Latent(width: first.width, height: first.height, batch: pictures.count, content: .pictures(pictures))))
        },
        "SimSampler": NodeBehavior { call in
            let width = try call.int("width"), height = try call.int("height")
            let scene = Scene([try call.text("seed")])
            try steps(
                call, count: try call.int("steps"), scene: scene, width: width, height: height,
                delay: .milliseconds(try call.int("delay_ms")) + call.services.stepDelay)
            let latent = Latent(
                width: width, height: height, batch: try call.int("batch_size"), content: .scene(scene, base: nil, denoise: 1))
            return .values(.images(try decode(latent, services: call.services)))
        },
    ]

    private static func sample(_ call: NodeCall, seed: String, denoise: Float) throws -> NodeResult {
        let latent = try call.latent("latent_image")
        let scene = Scene([try call.text(seed), try call.label("positive"), try call.label("negative"), try call.label("model")])
        try steps(
            call, count: try call.int("steps"), scene: scene, width: latent.width, height: latent.height, delay: call.services.stepDelay)
        let base: [Picture]? = if denoise < 1 { try decode(latent, services: call.services) } else { nil }
        let content = Latent.Content.scene(scene, base: base, denoise: denoise)
        return .values(.latent(Latent(width: latent.width, height: latent.height, batch: latent.batch, content: content)))
    }

    private static func steps(_ call: NodeCall, count: Int, scene: Scene, width: Int, height: Int, delay: Duration) throws {
        for step in 1...max(1, count) {
            if delay > .zero { try call.pause(delay) }
            let preview: Preview? =
                call.run.prompt.previews
                ? Preview(format: .jpeg) {
                    if let bytes = call.services.previewBytes { return try StampedPreviews.file(bytes: bytes, number: step, services: call.services) }
                    return try previewFrame(scene, width: width, height: height, step: step, of: count, services: call.services)
                } : nil
            try call.progress(step, of: count, preview: preview)
        }
    }

    /// The picture under the noise that is left at a step, at an eighth of the resolution, blown up until the longer side is the limit.
    static func previewFrame(
        _ scene: Scene, width: Int, height: Int, step: Int, of count: Int, services: RunServices
    ) throws -> [UInt8] {
        let longer = services.previewSize
        return try services.frames.value("\(scene.key) \(width)x\(height) \(step)/\(count) \(longer)") {
            let size = Picture.fitting(width: width, height: height, longer: longer)
            let small = Picture.fitting(width: width, height: height, longer: max(8, longer / 8))
            let left = 1 - Float(step) / Float(max(count, 1))
            let noisy = scene.picture(width: small.width, height: small.height)
                .blended(withNoise: left.squareRoot() * left, seed: scene.key &+ UInt64(step))
            return try JPEG.encode(noisy.scaledNearest(width: size.width, height: size.height))
        }
    }

    static func decode(_ latent: Latent, services: RunServices) throws -> [Picture] {
        switch latent.content {
        case .pictures(let pictures):
            return pictures
        case .empty:
            let gray = services.pictures.value("empty \(latent.width)x\(latent.height)") {
                Picture(width: latent.width, height: latent.height, color: 0x7F_7F7F)
            }
            return Array(repeating: gray, count: latent.batch)
        case .scene(let scene, let base, let denoise):
            return (0..<latent.batch).map { index in
                let scene = scene.inBatch(index)
                let picture = services.pictures.value("scene \(scene.key) \(latent.width)x\(latent.height)") {
                    scene.picture(width: latent.width, height: latent.height)
                }
                guard let base, base.indices.contains(index) else { return picture }
                return base[index].withoutAlpha().mixed(with: picture, share: denoise)
            }
        }
    }
}
