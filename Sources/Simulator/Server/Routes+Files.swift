import Crypto
import FoundationEssentials
import NIOHTTP1
import OrderedCollections
import OrderedJSON

/// Reading and uploading files (protocol section 4).
extension Router {
    static let fileRoutes: [Route] = [
        Route(.GET, "/view") { router, request, _ in try router.view(request) },
        Route(.POST, "/upload/image") { router, request, _ in
            try router.upload(request) { _, part, path in try Folders.write(Array(part.data), to: path) }
        },
        Route(.POST, "/upload/mask") { router, request, _ in
            try router.upload(request) { form, part, path in try router.writeMask(form, part, to: path) }
        },
        Route(.GET, "/internal/files/{}", mirrored: false) { router, _, parameters in
            guard let kind = Folders.Kind(rawValue: parameters[0]) else {
                return .json(["error": "Invalid directory type"], status: .badRequest)
            }
            return .json(.array(router.services.folders.files(kind).map(JSON.string)))
        },
    ]

    // MARK: View

    private func view(_ request: Request) throws -> Reply {
        try services.faults.reached(.view, nil)
        guard let given = request.value("filename") else { return .empty(.notFound) }
        guard !given.isEmpty else { return .empty(.badRequest) }
        if isNew, given.hasPrefix("blake3:") { return .empty(.notFound) }  // an asset's hash; assets are off
        let (annotated, annotatedKind) = Folders.annotated(given)
        guard !annotated.isEmpty, !annotated.hasPrefix("/"), !annotated.contains("..") else { return .empty(.badRequest) }
        guard let kind = annotatedKind ?? Folders.Kind(rawValue: request.value("type") ?? "output") else { return .empty(.badRequest) }
        guard let folder = services.folders.subfolder(request.value("subfolder") ?? "", of: kind) else { return .empty(.forbidden) }
        let name = String(annotated.split(separator: "/", omittingEmptySubsequences: false).last ?? "")
        guard let file = OpenFile(path: folder + "/" + name) else { return .empty(.notFound) }
        let channel = request.value("channel")
        if let preview = request.value("preview") { return try reencode(file, as: preview, channel: channel ?? "", name: name) }
        let disposition = self.disposition(name)
        switch channel {
        case "rgb":
            return picture(try Picture.decode(file.readAll()).withoutAlpha().png(), type: "image/png", disposition)
        case "a":
            let alpha = try Picture.decode(file.readAll())
            let black = Picture(width: alpha.width, height: alpha.height, color: 0)
            return picture(try black.withAlpha(alpha.alpha()).png(), type: "image/png", disposition)
        default:
            return plain(file, name, disposition, request.headers)
        }
    }

    /// `webp;QUALITY` or `jpeg;QUALITY`; the simulator's WebP is lossless, whatever the quality.
    private func reencode(_ file: OpenFile, as preview: String, channel: String, name: String) throws -> Reply {
        let parts = preview.split(separator: ";", omittingEmptySubsequences: false)
        let quality = parts.last.flatMap { Int($0) } ?? 90
        let original = try Picture.decode(file.readAll())
        if parts.first == "jpeg", !channel.contains("a") {
            return picture(try JPEG.encode(original.withoutAlpha(), quality: quality), type: "image/jpeg", disposition(name))
        }
        let shown = channel == "rgb" ? original.withoutAlpha() : original
        return picture(WebP.encode(shown), type: "image/webp", disposition(name))
    }

    private func picture(_ bytes: [UInt8], type: String, _ disposition: String) -> Reply {
        Reply(headers: ["Content-Disposition": disposition, "Content-Type": type], body: .bytes(bytes))
    }

    /// A quote in the name is not escaped before 0.33; a line break would be no header at all.
    private func disposition(_ name: String) -> String {
        var shown = name.filter { !$0.isNewline }
        if compatibility >= .v0_33_0 { shown = shown.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"") }
        return "filename=\"\(shown)\""
    }

    /// The file itself. What a browser would run is only given to be saved from 0.33 on, but for drawings that go into an `<img>`.
    private func plain(_ file: OpenFile, _ name: String, _ disposition: String, _ request: HTTPHeaders) -> Reply {
        let type = ContentTypes.guess(name)
        guard compatibility >= .v0_33_0 else { return FileReply.make(file, type: type, disposition: disposition, headers: request) }
        let isActive = ContentTypes.isActive(name)
        let isPicture = type == "image/svg+xml" && request.first(name: "sec-fetch-dest") == "image"
        let isSaved = isActive && !isPicture
        var reply = FileReply.make(
            file, type: isSaved ? ContentTypes.fallback : type, disposition: isSaved ? "attachment; \(disposition)" : disposition, headers: request)
        reply.headers.replaceOrAdd(name: "X-Content-Type-Options", value: "nosniff")
        if isActive {
            reply.headers.replaceOrAdd(name: "Cache-Control", value: "no-store")
            reply.headers.replaceOrAdd(name: "Vary", value: "Sec-Fetch-Dest")
        }
        return reply
    }

    // MARK: Upload

    private func upload(
        _ request: Request, write: (MultipartForm, MultipartForm.Part, _ path: String) throws -> Void
    ) throws -> Reply {
        let form = MultipartForm(request) ?? MultipartForm()
        let type = form.text("type") ?? "input"
        guard let kind = Folders.Kind(rawValue: type) else { throw UnexpectedBody() }
        guard let part = form["image"] else { return .empty(.badRequest) }
        guard let given = part.filename else { throw UnexpectedBody() }  // a text field has no file
        guard !given.isEmpty else { return .empty(.badRequest) }
        let subfolder = form.text("subfolder") ?? ""
        let base = services.folders.path(kind)
        let folder = subfolder.hasPrefix("/") ? Folders.normalized(subfolder) : Folders.normalized(base + "/" + subfolder)
        guard Folders.normalized(folder + "/" + given).hasPrefix(base + "/") else { return .empty(.badRequest) }
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)

        let dot = given.dropFirst().lastIndex(of: ".") ?? given.endIndex
        var name = given
        var isDuplicate = false
        if form.text("overwrite") != "true", form.text("overwrite") != "1" {
            let hash = SHA256.hash(data: part.data)
            var number = 1
            while let existing = OpenFile(path: folder + "/" + name) {
                if SHA256.hash(data: existing.readAll()) == hash {
                    isDuplicate = true
                    break
                }
                name = "\(given[..<dot]) (\(number))\(given[dot...])"
                number += 1
            }
        }
        if !isDuplicate { try write(form, part, folder + "/" + name) }
        services.names.forget()
        return .json(["name": .string(name), "subfolder": .string(subfolder), "type": .string(type)])
    }

    /// The original's colours with the uploaded picture's alpha. Writes nothing when there is no original.
    private func writeMask(_ form: MultipartForm, _ part: MultipartForm.Part, to path: String) throws {
        guard let reference = form.text("original_ref").flatMap({ try? JSON(parsing: $0, lenient: true) }),
            let given = reference["filename"]?.string
        else { throw UnexpectedBody() }
        let (name, annotatedKind) = Folders.annotated(given)
        guard !name.isEmpty, !name.hasPrefix("/"), !name.contains(".."),
            let kind = annotatedKind ?? Folders.Kind(rawValue: reference["type"]?.string ?? "output"),
            let folder = services.folders.subfolder(reference["subfolder"]?.string ?? "", of: kind),
            let file = OpenFile(path: folder + "/" + name)
        else { return }
        let bytes = file.readAll()
        let original = try Picture.decode(bytes), mask = try Picture.decode(Array(part.data))
        guard original.width == mask.width, original.height == mask.height else { throw UnexpectedBody() }
        let texts = PNG.texts(of: bytes).map { ($0.key, Array($0.text.utf8)) }
        try Folders.write(PNG.adding(texts, to: try original.withAlpha(mask.alpha()).png()), to: path)
    }
}
