import MicroHTTP

/// The type of content, as RFC 9110 section 8.3.1 writes it, and what a browser may do with it.
///
/// Read strictly: browsers take apart what is no media type in ways of their own. `image/png;a=b, text/html` is HTML to them, since a header
/// with a comma is two.
struct MediaType: Sendable, Equatable, CustomStringConvertible {
    /// Type and subtype, in lower case.
    let essence: String
    /// As it came, with the essence in lower case.
    let description: String

    /// Nil for what is none. Parameters have a token for a value, or a quoted string without escapes and commas.
    init?(_ text: String) {
        let bytes = text.utf8
        guard bytes.count <= 255 else { return nil }
        let end = bytes.firstIndex(of: UInt8(ascii: ";")) ?? bytes.endIndex
        var name = bytes[..<end]
        while let last = name.last, Self.isBlank(last) { name.removeLast() }
        let parts = name.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        guard parts.count == 2, parts.allSatisfy({ HTTPHeaders.isToken($0) }) else { return nil }
        essence = String(Substring(name)).lowercased()
        var rest = bytes[end...]
        while rest.popFirst() != nil {
            rest = rest.drop(while: Self.isBlank)
            let parameter = rest.prefix { $0 != UInt8(ascii: "=") }
            rest = rest[parameter.endIndex...]
            guard HTTPHeaders.isToken(parameter), rest.popFirst() != nil else { return nil }
            if rest.first == UInt8(ascii: "\"") {
                rest = rest.dropFirst()
                let value = rest.prefix { $0 != UInt8(ascii: "\"") }
                rest = rest[value.endIndex...]
                guard value.allSatisfy(Self.isPlain), rest.popFirst() != nil else { return nil }
            } else {
                let value = rest.prefix { $0 != UInt8(ascii: ";") && !Self.isBlank($0) }
                rest = rest[value.endIndex...]
                guard HTTPHeaders.isToken(value) else { return nil }
            }
            rest = rest.drop(while: Self.isBlank)
            guard rest.isEmpty || rest.first == UInt8(ascii: ";") else { return nil }
        }
        description = essence + String(Substring(bytes[end...]))
    }

    static let bytes = MediaType("application/octet-stream")!

    /// Types that a browser displays without running anything: no scripts, no links, no viewer that runs code.
    private static let shown: Set<String> = [
        "image/png", "image/apng", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/bmp", "image/tiff", "image/heic", "image/heif", "image/jxl",
        "image/x-icon", "image/vnd.microsoft.icon", "image/x-ms-bmp",
        "video/mp4", "video/webm", "video/ogg", "video/quicktime", "video/x-matroska", "video/matroska", "video/mpeg", "video/x-msvideo", "video/x-m4v",
        "audio/mpeg", "audio/mp3", "audio/mp4", "audio/x-m4a", "audio/aac", "audio/ogg", "audio/opus", "audio/webm", "audio/flac", "audio/x-flac", "audio/wav",
        "audio/x-wav", "audio/wave", "audio/vnd.wave", "audio/aiff", "audio/x-aiff",
        "text/plain", "application/json",
    ]

    /// Whether it may stand in a page or a tab of its own; everything else is only saved.
    var isShown: Bool { Self.shown.contains(essence) }

    /// How it is told to whoever fetches the content. What pages could be made to load as a script or a style sheet, or a tab could render as a
    /// document, is only bytes. A drawing keeps its name, so that pages can show it as an image, where nothing in it runs.
    var delivered: MediaType {
        if isShown || essence == "image/svg+xml" { return self }
        let isActive = ["multipart/", "message/"].contains(where: essence.hasPrefix) || ["xml", "xsl", "html", "script", "css"].contains(where: essence.contains)
        return isActive ? .bytes : self
    }

    private static func isBlank(_ byte: UInt8) -> Bool { byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") }

    /// Of a quoted string.
    private static func isPlain(_ byte: UInt8) -> Bool {
        (0x20...0x7E).contains(byte) && byte != UInt8(ascii: "\\") && byte != UInt8(ascii: ",")
    }
}
