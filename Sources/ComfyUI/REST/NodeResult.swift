import OrderedCollections
package import OrderedJSON

/// The `ui` result of a node, taken apart (protocol section 12): an object of lists, as a rule. Nothing is dropped.
package struct NodeResult: Sendable {
    package struct Item: Sendable, Equatable {
        package enum Content: Sendable, Equatable {
            /// Where the file may be, the likeliest place first.
            case file([FileReference])
            /// `index` counts within its list.
            case text(String, index: Int)
        }

        /// The list that it is in.
        package let key: String
        package let content: Content
    }

    /// Files and texts, in the order of the result.
    package private(set) var items: [Item] = []
    /// What is neither, as it came.
    package private(set) var others: JSONObject = [:]

    package init(_ output: JSONObject) {
        for (key, value) in output { add(value, under: key) }
    }

    private mutating func add(_ value: JSON, under key: String) {
        guard let list = value.array else {
            if !addFiles(in: value, under: key, depth: 0) { others[key] = value }
            return
        }
        // Positions in these lists mean something: what is no file stays where it is.
        if let path = list.first?.string.flatMap({ Self.path($0, under: key, folder: list.dropFirst().first?.string) }) {
            items.append(Item(key: key, content: .file(path)))
            others[key] = value
            return
        }
        var rest: [JSON] = []
        for (index, item) in list.enumerated() {
            if key == "text", let text = item.string {
                items.append(Item(key: key, content: .text(text, index: index)))
            } else if !addFiles(in: item, under: key, depth: 0), key != "animated" {  // a flag beside `images`
                rest.append(item)
            }
        }
        if !rest.isEmpty { others[key] = .array(rest) }
    }

    /// Adds the files that a value consists of, and those within what is more than files.
    ///
    /// - Returns: whether files are all there is.
    private mutating func addFiles(in value: JSON, under key: String, depth: Int) -> Bool {
        if let file = FileReference(value) {
            items.append(Item(key: key, content: .file(file.places)))
            return true
        }
        guard depth < Self.depthLimit else { return false }
        switch value {
        case .array(let elements) where !elements.isEmpty:
            return elements.reduce(true) { addFiles(in: $1, under: key, depth: depth + 1) && $0 }
        case .object(let members):
            for member in members.values { _ = addFiles(in: member, under: key, depth: depth + 1) }
            return false
        case .array, .null, .bool, .number, .string: return false
        }
    }

    private static let depthLimit = 8
}

// MARK: Files named by a string

extension NodeResult {
    /// Lists that name their file by a string: Preview3D and its kind, and players of packs, which put the folder behind it.
    private static let pathKeys: Set<String> = ["result", "model_file", "mesh", "glb", "video", "audio"]
    private static let pathExtensions: Set<String> = [
        "glb", "gltf", "obj", "fbx", "stl", "ply", "usd", "usda", "usdc", "usdz", "splat", "ksplat", "spz", "mp4", "webm", "mov", "mkv", "avi", "m4v", "gif",
        "flac", "mp3", "opus", "wav", "ogg", "m4a", "aac",
    ]
    /// What Preview3DAdvanced writes goes into the temp folder, which it does not say.
    private static let temporaryPrefix = "preview3d_advanced_"

    /// Nil for a string that is no relative path of a file with a known extension.
    private static func path(_ text: String, under key: String, folder: String?) -> [FileReference]? {
        guard pathKeys.contains(key), text.utf8.count <= 1024, let dot = text.utf8.lastIndex(of: UInt8(ascii: ".")),
            pathExtensions.contains(text[text.index(after: dot)...].lowercased())
        else { return nil }
        // By bytes: a slash with a combining mark behind it is one `Character`, and a slash all the same.
        var parts = text.utf8.split(omittingEmptySubsequences: false) { $0 == UInt8(ascii: "/") || $0 == UInt8(ascii: "\\") }.map { String(Substring($0)) }
        // Absolute, or leading outside: ComfyUI does not serve it.
        guard let name = parts.popLast(), !parts.contains(where: { $0.isEmpty || $0 == ".." || $0.hasSuffix(":") }) else { return nil }
        var subfolder = parts.joined(separator: "/")
        if parts.isEmpty, let folder, !folder.isEmpty, folder.utf8.count <= 1024 { subfolder = folder }
        let types = name.hasPrefix(temporaryPrefix) ? ["temp", "output"] : ["output", "temp"]
        return types.map { FileReference(filename: name, subfolder: subfolder, type: $0) }
    }
}

extension FileReference {
    /// ComfyUI passes over folders inside of `filename`; where packs (and its own job API) write them there, they are meant.
    fileprivate var places: [FileReference] {
        guard let slash = filename.utf8.lastIndex(of: UInt8(ascii: "/")) else { return [self] }
        let folder = filename[..<slash]
        let place = FileReference(
            filename: String(filename[filename.index(after: slash)...]), subfolder: subfolder.isEmpty ? String(folder) : "\(subfolder)/\(folder)", type: type)
        return place.filename.isEmpty ? [self] : [place, self]
    }
}
