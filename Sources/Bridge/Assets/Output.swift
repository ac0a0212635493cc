import ComfyUI
import Foundation

/// Something a job made that is worth keeping; an asset with its own id.
struct Output: Sendable {
    /// Normalised kind; part of the Comfy API v2.
    enum Kind: String, Sendable { case image, video, audio, text, file, latent }

    /// Where the bytes are.
    enum Source: Sendable {
        /// In the output, temp or input folder of a ComfyUI.
        case comfyUI(ComfyUIClient, FileReference)
        /// On this machine's disk, written by the bridge (results that came over the socket).
        case file(path: String)
        case text(String)
    }

    /// Asset id, UUIDv4 in lower case.
    let id: String
    let job: JobID
    let node: String
    let name: String
    let kind: Kind
    let contentType: String
    /// Bytes; nil when ComfyUI could not say.
    let size: Int?
    /// ComfyUI deletes it at its next start (`type: temp`).
    let isTemporary: Bool
    let source: Source
    let createdAt: Date

    init(
        job: JobID, node: String, name: String, kind: Kind, contentType: String, size: Int?, isTemporary: Bool = false, source: Source, createdAt: Date = Date()
    ) {
        id = JobID.makeUUID()
        self.job = job
        self.node = node
        self.name = name
        self.kind = kind
        self.contentType = contentType
        self.size = size
        self.isTemporary = isTemporary
        self.source = source
        self.createdAt = createdAt
    }
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
