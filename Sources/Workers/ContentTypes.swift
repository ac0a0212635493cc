import Wording

/// Content types by file extension, for where ComfyUI does not say: it knows few of the kinds that nodes write, and since 0.33 serves active ones (SVG)
/// as `application/octet-stream`.
enum ContentTypes {
    static let unknown = "application/octet-stream"

    /// - Parameter said: ComfyUI's word, which counts where it means something.
    static func type(of name: String, said: String?) -> String {
        if let said, !said.isEmpty, said.mediaType != unknown { return said }
        guard let dot = name.utf8.lastIndex(of: UInt8(ascii: ".")) else { return unknown }
        return byExtension[name[name.index(after: dot)...].lowercased()] ?? unknown
    }

    private static let byExtension: [String: String] = [
        "png": "image/png", "apng": "image/apng", "jpg": "image/jpeg", "jpeg": "image/jpeg", "webp": "image/webp", "gif": "image/gif", "bmp": "image/bmp",
        "svg": "image/svg+xml", "tif": "image/tiff", "tiff": "image/tiff", "avif": "image/avif", "heic": "image/heic", "jxl": "image/jxl", "exr": "image/x-exr",
        "hdr": "image/vnd.radiance", "psd": "image/vnd.adobe.photoshop",
        "mp4": "video/mp4", "m4v": "video/mp4", "webm": "video/webm", "mov": "video/quicktime", "mkv": "video/x-matroska", "avi": "video/x-msvideo",
        "mp3": "audio/mpeg", "wav": "audio/wav", "flac": "audio/flac", "ogg": "audio/ogg", "opus": "audio/ogg", "m4a": "audio/mp4", "aac": "audio/aac",
        "glb": "model/gltf-binary", "gltf": "model/gltf+json", "obj": "model/obj", "stl": "model/stl", "usdz": "model/vnd.usdz+zip",
        "txt": "text/plain", "md": "text/markdown", "csv": "text/csv", "json": "application/json", "html": "text/html", "htm": "text/html",
        "xhtml": "application/xhtml+xml", "css": "text/css", "js": "text/javascript", "mjs": "text/javascript", "xml": "application/xml",
        "pdf": "application/pdf", "zip": "application/zip", "srt": "application/x-subrip", "vtt": "text/vtt",
    ]
}
