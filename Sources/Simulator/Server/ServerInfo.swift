import FoundationEssentials
import OrderedCollections
import OrderedJSON

/// What the server says about itself.
enum ServerInfo {
    /// Of `/features` and the answer to `feature_flags`.
    static func features(_ configuration: ComfySimulator.Configuration) -> JSON {
        var features: JSONObject = ["supports_preview_metadata": true]
        if configuration.compatibility >= .v0_33_0 { features["supports_model_type_tags"] = true }
        features["max_upload_size"] = JSON(configuration.maximumUploadSize)
        if configuration.compatibility >= .v0_25_0 {
            features["extension"] = ["manager": ["supports_v4": true]]
            features["node_replacements"] = true
            features["assets"] = false
        }
        return .object(features)
    }

    static func systemStats(_ configuration: ComfySimulator.Configuration) -> JSON {
        let isNew = configuration.compatibility >= .v0_25_0
        let packages: (frontend: JSON, templates: JSON) =
            switch configuration.compatibility {
            case .v0_3_64: ("1.27.10", "0.1.95")
            case .v0_25_0: ("1.45.15", "0.10.0")
            case .v0_33_0: ("1.49.6", "0.11.44")
            }
        let total = JSON(ProcessInfo.processInfo.physicalMemory)
        var system: JSONObject = [
            "os": isNew ? "linux" : "posix", "ram_total": total, "ram_free": total,
            "comfyui_version": .string(configuration.compatibility.rawValue),
            "required_frontend_version": packages.frontend,
            "installed_templates_version": packages.templates, "required_templates_version": packages.templates,
        ]
        if isNew {
            system["comfy_package_versions"] = [
                ["name": "comfyui-frontend-package", "installed": packages.frontend, "required": packages.frontend],
                ["name": "comfyui-workflow-templates", "installed": packages.templates, "required": packages.templates],
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
        let rest = ["hypernetworks", "photomaker", "classifiers", "model_patches", "audio_encoders"]
        guard compatibility >= .v0_25_0 else { return common + ["custom_nodes"] + rest }
        return common + ["latent_upscale_models", "custom_nodes"] + (compatibility >= .v0_33_0 ? ["datasets"] : []) + rest
            + ["background_removal", "frame_interpolation", "geometry_estimation", "optical_flow", "detection"]
    }
}
