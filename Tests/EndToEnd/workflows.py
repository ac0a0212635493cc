"""Workflows for the tests, in API format."""

import json
import os


SAMPLER = "RecSampler" if os.environ.get("COMFYUI_URL") else "KSampler"
"""The class of node 3 of `txt2img`."""


def plain(size=64, color=0x336699, prefix="e2e"):
    """Needs no model and sends no previews."""
    return {
        "1": {"class_type": "EmptyImage", "inputs": {"width": size, "height": size, "batch_size": 1, "color": color}},
        "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": prefix}},
    }


def txt2img(steps=10, seed=1, size=64):
    """A sampler with previews; takes `steps` times the simulator's step delay. A real ComfyUI has no model: there it is a test node."""
    if os.environ.get("COMFYUI_URL"):
        sampler = {"seed": seed, "steps": steps, "delay_ms": 40, "preview_px": size, "batch": 1}
        return {
            "3": {"class_type": SAMPLER, "inputs": sampler, "_meta": {"title": "Sampler"}},
            "8": {"class_type": "ImageInvert", "inputs": {"image": ["3", 0]}},
            "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "e2e-txt2img"}},
        }
    return stock_txt2img(steps, seed, size)


def stock_txt2img(steps=10, seed=1, size=64):
    """The everyday graph, of ComfyUI's own classes."""
    return {
        "3": {
            "class_type": "KSampler",
            "inputs": {
                "seed": seed, "steps": steps, "cfg": 7.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0,
                "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0],
            },
            "_meta": {"title": "Sampler"},
        },
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd15.safetensors"}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": size, "height": size, "batch_size": 1}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a bridge", "clip": ["4", 1]}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry", "clip": ["4", 1]}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "e2e-txt2img"}},
    }


def endless():
    """Long enough that no test sees its end; to be canceled."""
    return txt2img(steps=10_000)


def raising():
    """A node of the simulator that fails."""
    return {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}},
        "2": {"class_type": "SimRaise", "inputs": {"image": ["1", 0], "steps": 2, "message": "the roof is on fire"}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "e2e"}},
    }


def every_kind():
    """A node of the simulator that puts out everything that protocol section 12 lists."""
    def file(name):
        return {"filename": name, "subfolder": "kinds", "type": "output"}

    output = {
        "images": [file("still.png"), file("drawing.svg")], "gifs": [{**file("clip.mp4"), "format": "video/h264-mp4"}], "audio": [file("sound.flac")],
        "3d": [file("model.glb")], "latents": [file("state.latent")], "text": ["hello <b>world</b>"], "score": [0.25],
    }
    return {"1": {"class_type": "SimOutput", "inputs": {"output": json.dumps(output), "bytes": 0}}}


def over_the_socket():
    """Results that come over ComfyUI's socket and are in no file of it."""
    return {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 48, "height": 32, "batch_size": 2, "color": 255}},
        "2": {"class_type": "SaveImageWebsocket", "inputs": {"images": ["1", 0]}},
    }


def partly_valid():
    """One output that runs and one that ComfyUI refuses, for a reason that only it can tell."""
    return {
        **plain(),
        "4": {"class_type": "ImageScale", "inputs": {"image": ["1", 0], "upscale_method": "no such method", "width": 8, "height": 8, "crop": "disabled"}},
        "5": {"class_type": "SaveImage", "inputs": {"images": ["4", 0], "filename_prefix": "never"}},
    }


def ui_format():
    """What the editor saves, which is not what runs."""
    return {"last_node_id": 1, "nodes": [{"id": 1, "type": "EmptyImage"}], "links": [], "version": 0.4}


def with_asset(id):
    """Reads a picture that was uploaded or put out before."""
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": {"__type": "core/ASSET", "info": {"id": id}}}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "e2e-asset"}},
    }


def inverting(image):
    """Loads a picture and saves it inverted. `image`: a name, a reference or an asset of the SDK."""
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": image}},
        "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": f"inverted-{os.urandom(4).hex()}"}},
    }


def waiting(milliseconds):
    """A node of the simulator that takes its time, over a picture of its own, so that nothing comes from the cache."""
    return {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 16, "batch_size": 1, "color": int.from_bytes(os.urandom(3))}},
        "2": {"class_type": "SimDelay", "inputs": {"image": ["1", 0], "milliseconds": milliseconds, "interruptible": True}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "waited"}},
    }


def large_output(size):
    """A file of so many bytes."""
    output = {"images": [{"filename": f"large-{size}.bin", "subfolder": "", "type": "output"}]}
    return {"1": {"class_type": "SimOutput", "inputs": {"output": json.dumps(output), "bytes": size}}}
