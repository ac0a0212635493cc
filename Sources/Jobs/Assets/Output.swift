/// Something a job made that is worth keeping: an asset with its place in the workflow.
package struct Output: Sendable {
    /// Normalised kind; part of the Comfy API v2.
    package enum Kind: String, Sendable { case image, video, audio, text, file, latent }

    package let asset: Asset
    package let node: String
    package let kind: Kind
    /// ComfyUI deletes it at its next start (`type: temp`).
    package let isTemporary: Bool
    /// Nil for one that was written down before there were places.
    package let place: Place?

    /// Where an output belongs among the others of its job, whenever it came: nodes in the order of the graph, and what one node made in its own order.
    /// ComfyUI tells of nodes in an order of its own, which is another one when some come from its cache.
    package struct Place: Sendable, Hashable, Comparable {
        package let node: Int
        /// The node that made it, where an expansion generated it; else empty.
        package let part: String
        package let index: Int

        package init(node: Int, part: String, index: Int) {
            self.node = node
            self.part = part
            self.index = index
        }

        package static func < (left: Place, right: Place) -> Bool {
            guard left.node == right.node else { return left.node < right.node }
            // Generated ids count up: `5.0.0.9` comes before `5.0.0.10`.
            guard left.part == right.part else {
                let counts = (left.part.utf8.count, right.part.utf8.count)
                return counts.0 == counts.1 ? left.part.utf8.lexicographicallyPrecedes(right.part.utf8) : counts.0 < counts.1
            }
            return left.index < right.index
        }
    }

    package init(job: JobID, node: String, place: Place? = nil, name: String, kind: Kind, contentType: String, isTemporary: Bool = false, blob: Blob) {
        self.init(
            asset: Asset(blob: blob, filePath: name, contentType: contentType, job: job), node: node, place: place, kind: kind, isTemporary: isTemporary)
    }

    package init(asset: Asset, node: String, place: Place?, kind: Kind, isTemporary: Bool) {
        self.asset = asset
        self.node = node
        self.place = place
        self.kind = kind
        self.isTemporary = isTemporary
    }

    /// Of its file, as ComfyUI chose it. Not `asset.name`: a name of ComfyUI's is no path of ours.
    package var name: String { asset.filePath }
    package var contentType: String { asset.contentType }
}

extension RandomAccessCollection<Output> {
    /// By their places; those without one stay as they came.
    package var inGraphOrder: [Output] {
        let places = compactMap(\.place)
        guard places.count == count, !zip(places, places.dropFirst()).allSatisfy({ !($1 < $0) }) else { return Array(self) }
        return zip(places, self).sorted { $0.0 < $1.0 }.map(\.1)
    }
}

extension Output.Kind {
    /// The kind of a file by the content type ComfyUI serves it with, else by its name and the key it was listed under.
    package init(contentType: String, name: String, listedUnder key: String) {
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
