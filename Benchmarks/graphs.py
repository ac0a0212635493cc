"""Workflows that the workloads run. A `colour` makes one that ComfyUI has not run before, which it would answer from its cache."""


def picture(colour, prefix="b"):
    return {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": colour % (1 << 24)}},
        "2": {"class_type": "SaveImage", "inputs": {"filename_prefix": prefix, "images": ["1", 0]}},
    }


def delay(milliseconds, colour, prefix="b"):
    """A job that takes so long by itself."""
    graph = picture(colour, prefix)
    if milliseconds > 0:
        graph["3"] = {"class_type": "SimDelay", "inputs": {"image": ["1", 0], "milliseconds": milliseconds, "interruptible": True}}
        graph["2"]["inputs"]["images"] = ["3", 0]
    return graph


def sampler(seed, steps=4, size=256):
    """A job with a preview at every step."""
    return {
        "3": {"class_type": "KSampler", "inputs": {
            "seed": seed, "steps": steps, "cfg": 7.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0,
            "model": ["4", 0], "positive": ["6", 0], "negative": ["6", 0], "latent_image": ["5", 0]}},
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd15.safetensors"}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": size, "height": size, "batch_size": 1}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a", "clip": ["4", 1]}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
        "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "b", "images": ["8", 0]}},
    }


def chain(nodes, colour):
    """So many nodes that run one after the other."""
    graph = picture(colour)
    last = "1"
    for number in range(3, nodes + 1):
        graph[str(number)] = {"class_type": "ImageInvert", "inputs": {"image": [last, 0]}}
        last = str(number)
    graph["2"]["inputs"]["images"] = [last, 0]
    return graph


def large(size):
    """A sampler's job, in so many bytes of a graph of which the rest is not run."""
    graph = sampler(seed=1, steps=1, size=64)
    number, length = 10, 0
    while length < size:
        node = {"class_type": "CLIPTextEncode", "inputs": {"text": "a bridge over a river, " * 8, "clip": ["4", 1]}, "_meta": {"title": f"Text {number}"}}
        graph[str(number)] = node
        length += 290
        number += 1
    return graph
