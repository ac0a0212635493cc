import FoundationEssentials
import Jobs
import MicroHTTP
import OrderedCollections
import OrderedJSON
import Wording

/// What a caller uploads: the bytes, on disk by now, and what it says about them.
struct AssetUpload {
    let writer: any BlobWriter
    let description: AssetService.Description

    static let layout = FormLayout(
        files: ["file"],
        texts: [.init(name: "file_path"), .init(name: "content_type"), .init(name: "expected_hash"), .init(name: "tags", isRepeated: true), .init(name: "expires_in")])

    /// Reads the form to its end.
    ///
    /// - Parameter received: counts the bytes of the file.
    init(reading form: FormUpload, into blobs: any BlobStore, received: Counter) async throws {
        var reader = FormReader(form, Self.layout)
        var writer: (any BlobWriter)?
        var filename: String?
        var partType: String?
        while let event = try await reader.next() {
            switch event {
            case .file(_, let name, let contentType):
                (filename, partType) = (name, contentType)
                writer = try blobs.makeWriter()
            case .bytes(let bytes):
                received.add(bytes.count)
                try await writer?.write(bytes)
            }
        }
        guard let writer else { throw APIError.invalidRequest("file", "The part 'file' is missing; send it for example with curl -F file=@photo.png.") }
        if let expected = reader.text("expected_hash") {
            let expected = try AssetMembers.hash(expected, field: "expected_hash")
            guard writer.hash == expected else { throw APIError.hashMismatch(expected: expected, actual: writer.hash) }
        }
        guard let path = reader.text("file_path") ?? filename else {
            throw APIError.invalidRequest("file_path", "The part 'file_path' is missing; it says what the file is called, for example photo.png.")
        }
        let lifetime = try reader.text("expires_in").map { text in
            guard let seconds = Int(text) else { throw AssetMembers.invalidLifetime }
            return try AssetMembers.lifetime(seconds)
        }
        let contentType = try AssetMembers.contentType(reader.text("content_type") ?? partType ?? "application/octet-stream")
        self.writer = writer
        description = AssetService.Description(
            filePath: try AssetMembers.path(path), contentType: contentType, tags: try AssetMembers.tags(reader.texts("tags")), lifetime: lifetime)
    }
}

/// The members of a request about an asset, each checked.
struct AssetMembers {
    let hash: ContentHash
    let filePath: String?
    let tags: [String]
    let lifetime: Duration?

    /// Reads the body of `from-hash`.
    init(_ request: Request) throws {
        guard let members = try request.json(#"Send {"hash": "blake3:…"}."#).object else {
            throw APIError.invalidRequest("hash", #"The body must be an object: {"hash": "blake3:…", "file_path": "photo.png"}."#)
        }
        for name in members.names where !["hash", "file_path", "tags", "expires_in"].contains(name) {
            throw APIError.invalidRequest(name.text, "'\(name.text.excerpt)' is not known; possible are hash, file_path, tags and expires_in.")
        }
        hash = try Self.hash(members["hash"]?.string ?? "", field: "hash")
        switch members["file_path"] {
        case nil, .null: filePath = nil
        case .string(let text): filePath = try Self.path(text)
        case let other?: throw APIError.invalidRequest("file_path", "'file_path' is \(other.kindInWords); it must be a string.")
        }
        switch members["tags"] {
        case nil, .null: tags = []
        case .array(let elements):
            tags = try Self.tags(
                elements.map { element in
                    guard let tag = element.string else { throw APIError.invalidRequest("tags", "'tags' holds \(element.kindInWords); it must be an array of strings.") }
                    return tag
                })
        case let other?: throw APIError.invalidRequest("tags", "'tags' is \(other.kindInWords); it must be an array of strings.")
        }
        switch members["expires_in"] {
        case nil, .null: lifetime = nil
        case let value?:
            guard let seconds = value.int else { throw Self.invalidLifetime }
            lifetime = try Self.lifetime(seconds)
        }
    }

    static func hash(_ text: String, field: String) throws -> ContentHash {
        guard let hash = ContentHash(text) else {
            throw APIError.invalidRequest(field, "'\(field)' is '\(text.excerpt)'; it must be blake3: and 64 hexadecimal digits.")
        }
        return hash
    }

    static func path(_ text: String) throws -> String {
        do { return try AssetPath.checked(text) } catch {
            throw APIError.invalidRequest("file_path", "'file_path' is '\(text.excerpt)': \(error.reason).")
        }
    }

    static func contentType(_ text: String) throws -> String {
        guard let type = MediaType(text) else {
            throw APIError.invalidRequest("content_type", "'content_type' is '\(text.excerpt)'; write a media type such as image/png.")
        }
        return type.description
    }

    static func tags(_ tags: [String]) throws -> [String] {
        guard tags.count <= 64, tags.allSatisfy({ (1...256).contains($0.utf8.count) }) else {
            throw APIError.invalidRequest("tags", "There may be 64 tags of 1 to 256 bytes each.")
        }
        return tags
    }

    static func lifetime(_ seconds: Int) throws -> Duration {
        guard (60...604_800).contains(seconds) else { throw invalidLifetime }
        return .seconds(seconds)
    }

    static let invalidLifetime = APIError.invalidRequest("expires_in", "'expires_in' must be a whole number of seconds from 60 to 604800.")
}
