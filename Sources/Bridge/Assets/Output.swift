/// Something a job made that is worth keeping: an asset with its place in the workflow.
struct Output: Sendable {
    /// Normalised kind; part of the Comfy API v2.
    enum Kind: String, Sendable { case image, video, audio, text, file, latent }

    let asset: Asset
    let node: String
    let kind: Kind
    /// ComfyUI deletes it at its next start (`type: temp`).
    let isTemporary: Bool

    init(job: JobID, node: String, name: String, kind: Kind, contentType: String, isTemporary: Bool = false, blob: Blob) {
        self.init(asset: Asset(blob: blob, filePath: name, contentType: contentType, job: job), node: node, kind: kind, isTemporary: isTemporary)
    }

    init(asset: Asset, node: String, kind: Kind, isTemporary: Bool) {
        self.asset = asset
        self.node = node
        self.kind = kind
        self.isTemporary = isTemporary
    }

    /// Of its file, as ComfyUI chose it. Not `asset.name`: a name of ComfyUI's is no path of ours.
    var name: String { asset.filePath }
    var contentType: String { asset.contentType }
}

extension Output.Kind {
    /// The kind of a file by the content type ComfyUI serves it with, else by its name and the key it was listed under.
    init(contentType: String, name: String, listedUnder key: String) {
        let fileExtension = name.split(separator: ".").last.map { $0.lowercased() } ?? ""
        switch contentType.split(separator: "/").first {
        case "image": self = .image
        case "video": self = .video
        case "audio": self = .audio
        case _ where key == "latents" || fileExtension == "latent": self = .latent
        case _ where ["mp4", "webm", "mov", "mkv", "avi", "m4v"].contains(fileExtension): self = .video
        case _ where ["flac", "mp3", "opus", "wav", "ogg", "m4a", "aac"].contains(fileExtension): self = .audio
        case _ where ["png", "jpg", "jpeg", "webp", "gif", "avif", "bmp", "tiff", "exr"].contains(fileExtension): self = .image
        case "text": self = .text
        default: self = .file
        }
    }
}
