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
