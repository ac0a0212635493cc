package import FoundationEssentials
import Synchronization

/// Bytes with an id: something a caller uploaded, or something a job made.
package struct Asset: Sendable {
    /// UUIDv4 in lower case.
    package let id: String
    package let blob: Blob
    /// Of an upload the path below ComfyUI's input folder that its caller gave, checked by `AssetPath`; of an output the name of its file.
    package let filePath: String
    package let contentType: String
    package let tags: [String]
    package let createdAt: Date
    /// When an upload goes; nil is never. An output goes with its job.
    package var expiresAt: Date?
    /// The job that made it; nil for an upload.
    package let job: JobID?

    package init(
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
    package var name: String { filePath.pathParts.last ?? filePath }
}

/// A file in the output, temp or input folder of a ComfyUI.
package struct ComfyFile: Sendable, Hashable {
    /// The address of that ComfyUI, without credentials.
    package let endpoint: String
    package let filename: String
    /// Folders below the one of `type`, with slashes; empty for none.
    package let subfolder: String
    /// `output`, `temp` or `input`. Files of type temp vanish when ComfyUI restarts.
    package let type: String

    package init(endpoint: String, filename: String, subfolder: String, type: String) {
        self.endpoint = endpoint
        self.filename = filename
        self.subfolder = subfolder
        self.type = type
    }
}

/// The bytes behind one or more assets, wherever they are.
package final class Blob: Sendable {
    package enum Source: Sendable {
        /// A file of a `BlobStore` on this machine.
        case stored(path: String)
        /// A file that stays inside a ComfyUI.
        case comfyUI(ComfyFile)
        case text(String)
    }

    package let source: Source
    /// Bytes; nil when ComfyUI could not say.
    package let size: Int?
    private let knownHash: Mutex<ContentHash?>

    package init(source: Source, size: Int?, hash: ContentHash? = nil) {
        self.source = source
        self.size = size
        knownHash = Mutex(hash)
    }

    package convenience init(text: String) {
        self.init(source: .text(text), size: text.utf8.count, hash: ContentHash(of: text.utf8))
    }

    /// Nil until somebody asked for it: what stays inside ComfyUI is only read when there is a reason to.
    package var hash: ContentHash? {
        get { knownHash.withLock { $0 } }
        set { knownHash.withLock { $0 = newValue } }
    }
}
