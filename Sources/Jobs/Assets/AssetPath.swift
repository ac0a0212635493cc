import OrderedJSON
import Workflow

/// Where an upload wants to be inside ComfyUI's input folder, and what it is called.
package enum AssetPath {
    package struct Unusable: Error {
        /// For a person; says what to write.
        package let reason: String
    }

    /// Bytes of a path.
    package static let lengthLimit = 1024

    /// ComfyUI's folders for models, which its HTTP interface does not write to.
    private static let modelFolders: Set<Name> = [
        "models", "checkpoints", "loras", "vae", "text_encoders", "clip", "diffusion_models", "unet", "clip_vision", "style_models", "embeddings",
        "diffusers", "vae_approx", "controlnet", "gligen", "upscale_models", "latent_upscale_models", "hypernetworks", "photomaker", "classifiers",
        "model_patches", "audio_encoders", "custom_nodes", "configs",
    ]

    /// The path without a leading `input/`, checked so that ComfyUI takes it for what it is: a file below its input folder.
    package static func checked(_ text: String) throws(Unusable) -> String {
        guard text.utf8.count <= lengthLimit else { throw Unusable(reason: "it is too long; a name may have 200 bytes, the whole path \(lengthLimit)") }
        var parts = text.pathParts
        if parts.count > 1, parts[0].hasSameBytes(as: "input") { parts.removeFirst() }
        guard let name = parts.last, !name.isEmpty else { throw Unusable(reason: "it names no file; write for example photo.png") }
        guard !parts.contains(where: { $0.isEmpty || $0.hasSameBytes(as: ".") || $0.hasSameBytes(as: "..") }), !text.leavesItsFolder else {
            throw Unusable(reason: "it must be relative and without '.' and '..'; write for example photo.png or faces/photo.png")
        }
        guard !text.unicodeScalars.contains(where: { $0.value < 0x20 || (0x7F...0x9F).contains($0.value) || $0 == "\\" }) else {
            throw Unusable(reason: "it must not contain backslashes or control characters")
        }
        guard parts.allSatisfy({ $0.utf8.count <= 200 }) else {
            throw Unusable(reason: "it is too long; a name may have 200 bytes, the whole path \(lengthLimit)")
        }
        if parts.count > 1, modelFolders.contains(Name(parts[0])) {
            throw Unusable(
                reason: "'\(parts[0])' is a folder for models, which ComfyUI does not accept over HTTP; copy the file into ComfyUI's models folder instead")
        }
        // ComfyUI reads such an ending as the name of a folder (protocol section 4).
        guard !["[input]", "[output]", "[temp]"].contains(where: { name.utf8.reversed().starts(with: $0.utf8.reversed()) }) else {
            throw Unusable(reason: "it must not end in [input], [output] or [temp]")
        }
        return parts.joined(separator: "/")
    }
}

extension String {
    /// What stands between the slashes, by bytes: a slash with a combining mark behind it is one `Character`, and a slash all the same.
    package var pathParts: [String] {
        utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).map { String(Substring($0)) }
    }
}
