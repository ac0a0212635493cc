package import OrderedJSON

/// A file in one of ComfyUI's folders, as `executed` messages, history entries and upload answers name it.
package struct FileReference: Sendable, Hashable {
    package let filename: String
    /// Folders below the one of `type`, with slashes; empty for none.
    package let subfolder: String
    /// `output`, `temp` or `input`. Files of type temp vanish when ComfyUI restarts.
    package let type: String

    package init(filename: String, subfolder: String = "", type: String = "output") {
        self.filename = filename
        self.subfolder = subfolder
        self.type = type
    }

    /// The file that one item of an output list names; nil for what is no object with a `filename`. Node packs may leave out the other two
    /// members (protocol section 12).
    package init?(_ json: JSON) {
        guard let filename = json["filename"]?.string, !filename.isEmpty else { return nil }
        self.init(filename: filename, subfolder: json["subfolder"]?.string ?? "", type: json["type"]?.string ?? "output")
    }
}

/// What `HEAD /view` tells about a file.
package struct FileInfo: Sendable, Hashable {
    /// Bytes; nil when the server does not say.
    package let size: Int64?
    package let contentType: String?
    package let etag: String?
    package let lastModified: String?

    package init(size: Int64?, contentType: String?, etag: String?, lastModified: String?) {
        self.size = size
        self.contentType = contentType
        self.etag = etag
        self.lastModified = lastModified
    }
}

/// Where ComfyUI put an uploaded file. The name may differ from the one that was sent (`x (1).png`).
package struct UploadedFile: Sendable, Hashable {
    package let reference: FileReference

    package init(_ reference: FileReference) { self.reference = reference }

    /// What a LoadImage node's `image` input takes for this file: `subfolder/name [type]`, without the parts that are the default.
    package var inputValue: String {
        let path = reference.subfolder.isEmpty ? reference.filename : "\(reference.subfolder)/\(reference.filename)"
        return reference.type == "input" ? path : "\(path) [\(reference.type)]"
    }
}
