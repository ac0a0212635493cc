import FoundationEssentials
import OrderedCollections
import OrderedJSON

/// What the server says about itself.
enum ServerInfo {
    /// Of `/features` and the answer to `feature_flags`.
    static func features(_ configuration: ComfySimulator.Configuration) -> JSON {
        var features: JSONObject = ["supports_preview_metadata": true, "max_upload_size": JSON(configuration.maximumUploadSize)]
        if configuration.compatibility == .v0_25_0 {
            features["extension"] = ["manager": ["supports_v4": true]]
            features["node_replacements"] = true
            features["assets"] = false
        }
        return .object(features)
    }

    static func systemStats(_ configuration: ComfySimulator.Configuration) -> JSON {
        let isNew = configuration.compatibility == .v0_25_0
        let total = JSON(ProcessInfo.processInfo.physicalMemory)
        var system: JSONObject = [
            "os": isNew ? "linux" : "posix", "ram_total": total, "ram_free": total,
            "comfyui_version": .string(configuration.compatibility.rawValue),
            "required_frontend_version": isNew ? "1.45.15" : "1.27.10",
            "installed_templates_version": isNew ? "0.10.0" : "0.1.95", "required_templates_version": isNew ? "0.10.0" : "0.1.95",
        ]
        if isNew {
            system["comfy_package_versions"] = [
                ["name": "comfyui-frontend-package", "installed": "1.45.15", "required": "1.45.15"],
                ["name": "comfyui-workflow-templates", "installed": "0.10.0", "required": "0.10.0"],
            ]
        }
        system["python_version"] = "3.11.7 (simulated)"
        system["pytorch_version"] = "2.13.0+cpu"
        system["embedded_python"] = false
        if isNew { system["deploy_environment"] = "simulator" }
        system["argv"] = ["main.py", "--cpu", "--preview-method", configuration.previewsByDefault ? "latent2rgb" : "none"]
        return [
            "system": .object(system),
            "devices": [
                [
                    "name": "cpu", "type": "cpu", "index": nil, "vram_total": total, "vram_free": total, "torch_vram_total": total,
                    "torch_vram_free": total,
                ]
            ],
        ]
    }

    static func modelFolders(_ compatibility: ComfySimulator.Compatibility) -> [String] {
        let common = [
            "checkpoints", "configs", "loras", "vae", "text_encoders", "diffusion_models", "clip_vision", "style_models", "embeddings",
            "diffusers", "vae_approx", "controlnet", "gligen", "upscale_models",
        ]
        let rest = ["custom_nodes", "hypernetworks", "photomaker", "classifiers", "model_patches", "audio_encoders"]
        switch compatibility {
        case .v0_3_64: return common + rest
        case .v0_25_0:
            return common + ["latent_upscale_models"] + rest
                + ["background_removal", "frame_interpolation", "geometry_estimation", "optical_flow", "detection"]
        }
    }
}
