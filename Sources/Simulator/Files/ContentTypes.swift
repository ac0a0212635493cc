/// What Python's `mimetypes` and ComfyUI's corrections make of a file name (protocol section 4.1).
enum ContentTypes {
    static func guess(_ name: String) -> String {
        guard let dot = name.lastIndex(of: ".") else { return fallback }
        return byExtension[name[name.index(after: dot)...].lowercased()] ?? fallback
    }

    static let fallback = "application/octet-stream"

    /// What 0.33 takes for able to run in a browser, by its name.
    static func isActive(_ name: String) -> Bool {
        guard let dot = name.lastIndex(of: ".") else { return false }
        return active.contains(name[name.index(after: dot)...].lowercased())
    }

    private static let active: Set = ["html", "htm", "xhtml", "js", "mjs", "css", "svg", "svgz", "xml", "xsl", "mht", "mhtml"]

    /// HTML, CSS and module scripts are not here on purpose: they are forced to the fallback.
    private static let byExtension: [String: String] = [
        "png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "webp": "image/webp", "gif": "image/gif", "bmp": "image/bmp",
        "svg": "image/svg+xml", "svgz": "image/svg+xml", "ico": "image/vnd.microsoft.icon", "tiff": "image/tiff", "avif": "image/avif", "exr": "application/octet-stream",
        "mp4": "video/mp4", "webm": "video/webm", "mov": "video/quicktime", "mkv": "video/x-matroska", "avi": "video/x-msvideo",
        "mp3": "audio/mpeg", "wav": "audio/x-wav", "flac": "audio/flac", "ogg": "audio/ogg", "opus": "audio/ogg", "m4a": "audio/mp4",
        "glb": "model/gltf-binary", "gltf": "model/gltf+json", "obj": "model/obj", "stl": "model/stl",
        "json": "application/json", "txt": "text/plain", "csv": "text/csv", "md": "text/markdown", "xml": "application/xml",
        "js": "application/javascript; charset=utf-8", "pdf": "application/pdf", "wasm": "application/wasm", "swf": "application/vnd.adobe.flash.movie", "zip": "application/zip",
        "safetensors": "application/safetensors", "sft": "application/safetensors",
    ]
}
