package import OrderedJSON

/// Graphs for the simulator.
package enum Graph {
    package static func picture(seed: Int = 1, width: Int = 32) -> JSON {
        [
            "1": ["class_type": "EmptyImage", "inputs": ["width": JSON(width), "height": 32, "batch_size": 1, "color": JSON(seed)]],
            "2": ["class_type": "SaveImage", "inputs": ["images": ["1", 0], "filename_prefix": "t"]],
        ]
    }

    /// - Parameter failure: with which it ends after the delay.
    package static func delay(milliseconds: Int, seed: Int = 1, failure: String? = nil) -> JSON {
        var graph: JSONObject = [
            "1": ["class_type": "EmptyImage", "inputs": ["width": 16, "height": 16, "batch_size": 1, "color": JSON(seed)]],
            "2": ["class_type": "SimDelay", "inputs": ["image": ["1", 0], "milliseconds": JSON(milliseconds), "interruptible": true]],
            "3": ["class_type": "SaveImage", "inputs": ["images": ["2", 0], "filename_prefix": "d"]],
        ]
        if let failure {
            graph["4"] = ["class_type": "SimRaise", "inputs": ["image": ["2", 0], "steps": 1, "message": .string(failure)]]
            graph["3"] = ["class_type": "SaveImage", "inputs": ["images": ["4", 0], "filename_prefix": "d"]]
        }
        return .object(graph)
    }

    package static func fails(_ message: String) -> JSON {
        [
            "1": ["class_type": "EmptyImage", "inputs": ["width": 16, "height": 16, "batch_size": 1, "color": 0]],
            "2": ["class_type": "SimRaise", "inputs": ["image": ["1", 0], "steps": 2, "message": .string(message)]],
            "3": ["class_type": "SaveImage", "inputs": ["images": ["2", 0], "filename_prefix": "f"]],
        ]
    }

    package static func output(_ ui: JSON, bytes: Int = 10) -> JSON {
        ["1": ["class_type": "SimOutput", "inputs": ["output": .string(ui.text), "bytes": JSON(bytes)]]]
    }

    package static func sampler(steps: Int, seed: String = "18446744073709551615") -> JSON {
        [
            "3": [
                "class_type": "KSampler",
                "inputs": [
                    "seed": .number(JSONNumber(literal: seed)), "steps": JSON(steps), "cfg": 7.0, "sampler_name": "euler", "scheduler": "normal",
                    "denoise": 1, "model": ["4", 0], "positive": ["6", 0], "negative": ["6", 0], "latent_image": ["5", 0],
                ],
            ],
            "4": ["class_type": "CheckpointLoaderSimple", "inputs": ["ckpt_name": "sd15.safetensors"]],
            "5": ["class_type": "EmptyLatentImage", "inputs": ["width": 64, "height": 64, "batch_size": 1]],
            "6": ["class_type": "CLIPTextEncode", "inputs": ["text": "a", "clip": ["4", 1]]],
            "8": ["class_type": "VAEDecode", "inputs": ["samples": ["3", 0], "vae": ["4", 2]]],
            "9": ["class_type": "SaveImage", "inputs": ["filename_prefix": "k", "images": ["8", 0]]],
        ]
    }
}
