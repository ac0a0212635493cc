/// What Python's `mimetypes` and ComfyUI's corrections make of a file name (protocol section 4.1).
enum ContentTypes {
    static func guess(_ name: String) -> String {
        guard let dot = name.lastIndex(of: ".") else { return fallback }
        return byExtension[name[name.index(after: dot)...].lowercased()] ?? fallback
    }

    private static let fallback = "application/octet-stream"

    /// HTML, CSS and module scripts are not here on purpose: they are forced to the fallback.
    private static let byExtension: [String: String] = [
        "png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "webp": "image/webp", "gif": "image/gif", "bmp": "image/bmp",
        "svg": "image/svg+xml", "tiff": "image/tiff", "avif": "image/avif", "exr": "application/octet-stream",
        "mp4": "video/mp4", "webm": "video/webm", "mov": "video/quicktime", "mkv": "video/x-matroska", "avi": "video/x-msvideo",
        "mp3": "audio/mpeg", "wav": "audio/x-wav", "flac": "audio/flac", "ogg": "audio/ogg", "opus": "audio/ogg", "m4a": "audio/mp4",
        "glb": "model/gltf-binary", "gltf": "model/gltf+json", "obj": "model/obj", "stl": "model/stl",
        "json": "application/json", "txt": "text/plain", "csv": "text/csv", "md": "text/markdown", "xml": "application/xml",
        "js": "application/javascript; charset=utf-8", "pdf": "application/pdf", "zip": "application/zip",
        "safetensors": "application/safetensors", "sft": "application/safetensors",
    ]
}
