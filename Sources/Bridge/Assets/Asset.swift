import ComfyUI
import FoundationEssentials
import Synchronization

/// Bytes with an id: something a caller uploaded, or something a job made.
struct Asset: Sendable {
    /// UUIDv4 in lower case.
    let id: String
    let blob: Blob
    /// Of an upload the path below ComfyUI's input folder that its caller gave, checked by `AssetPath`; of an output the name of its file.
    let filePath: String
    let contentType: String
    let tags: [String]
    let createdAt: Date
    /// When an upload goes; nil is never. An output goes with its job.
    var expiresAt: Date?
    /// The job that made it; nil for an upload.
    let job: JobID?

    init(
        id: String = JobID.makeUUID(), blob: Blob, filePath: String, contentType: String, tags: [String] = [], createdAt: Date = Date(),
        expiresAt: Date? = nil, job: JobID? = nil
    ) {
        self.id = id
        self.blob = blob
        self.filePath = filePath
        self.contentType = contentType
        self.tags = tags
        self.createdAt = createdAt
        self.expiresAt = expiresAt
        self.job = job
    }

    /// The last part of the path.
    var name: String { filePath.pathParts.last ?? filePath }
}

/// The bytes behind one or more assets, wherever they are.
final class Blob: Sendable {
    enum Source: Sendable {
        /// A file of the `BlobStore`.
        case stored(path: String)
        /// In the output, temp or input folder of a ComfyUI.
        case comfyUI(ComfyUIClient, FileReference)
        case text(String)
    }

    let source: Source
    /// Bytes; nil when ComfyUI could not say.
    let size: Int?
    private let knownHash: Mutex<ContentHash?>

    init(source: Source, size: Int?, hash: ContentHash? = nil) {
        self.source = source
        self.size = size
        knownHash = Mutex(hash)
    }

    convenience init(text: String) {
        self.init(source: .text(text), size: text.utf8.count, hash: ContentHash(of: text.utf8))
    }

    /// Nil until somebody asked for it: what stays inside ComfyUI is only read when there is a reason to.
    var hash: ContentHash? {
        get { knownHash.withLock { $0 } }
        set { knownHash.withLock { $0 = newValue } }
    }
}
