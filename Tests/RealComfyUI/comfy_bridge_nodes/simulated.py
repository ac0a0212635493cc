"""The simulator's own classes, so that the workflows of Tests/EndToEnd run in a real ComfyUI too (scripts/test-real)."""

import hashlib
import json
import os
import pathlib

import comfy.utils
import folder_paths
from comfy_execution.graph import ExecutionBlocker

from . import COUNT, PICTURE, TEXT, Node, RecProgressText, RecRaise, RecSampler, RecSleep, preview, required


def number(text):
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])


class SimSampler(Node):
    @classmethod
    def INPUT_TYPES(cls):
        return {
            **required(seed=("STRING", {"default": "0"}), steps=COUNT, delay_ms=COUNT, width=COUNT, height=COUNT, batch_size=COUNT),
            "optional": {"image": PICTURE}}

    def run(self, seed, steps, delay_ms, width, height, batch_size, image=None):
        return RecSampler().run(number(seed), steps, delay_ms, 64, batch_size)


class SimDelay(Node):
    @classmethod
    def INPUT_TYPES(cls):
        return required(image=PICTURE, milliseconds=COUNT, interruptible=("BOOLEAN", {"default": True}))

    def run(self, image, milliseconds, interruptible):
        return RecSleep().run(image, milliseconds, interruptible)


class SimRaise(RecRaise):
    pass


class SimBlock(Node):
    @classmethod
    def INPUT_TYPES(cls):
        return required(image=PICTURE, message=TEXT)

    def run(self, image, message):
        return (ExecutionBlocker(message or None),)


class SimProgressText(RecProgressText):
    pass


class SimPreviews(Node):
    @classmethod
    def INPUT_TYPES(cls):
        return required(image=PICTURE, frames=COUNT, per_second=("FLOAT", {"default": 20.0}), bytes=COUNT)

    def run(self, image, frames, per_second, bytes):
        bar = comfy.utils.ProgressBar(frames)
        for frame in range(frames):
            if per_second:
                RecSleep().run(image, 1000 / per_second, True)
            bar.update_absolute(frame + 1, frames, preview(frame, 256))
        return (image,)


class SimOutput(Node):
    """Its `ui` result is the JSON object it is given; files that are named there are made, in the output and the temp folder."""

    OUTPUT_NODE = True
    RETURN_TYPES = ()

    @classmethod
    def INPUT_TYPES(cls):
        return required(output=TEXT, bytes=("INT", {"default": 0, "min": 0, "max": 1 << 40}))

    def run(self, output, bytes):
        ui = json.loads(output)
        items = [item for items in ui.values() if isinstance(items, list) for item in items if isinstance(item, dict) and "filename" in item]
        if isinstance((path := (ui.get("result") or [None])[0]), str):
            items.append({"filename": path, "type": "temp" if path.startswith("preview3d_advanced_") else "output"})
        for item in items:
            root = pathlib.Path({"output": folder_paths.get_output_directory, "temp": folder_paths.get_temp_directory}[item.get("type", "output")]())
            file = root / item.get("subfolder", "") / item["filename"]
            if not file.resolve().is_relative_to(root.resolve()):
                raise ValueError(f"'{item['filename']}' leads outside of the folder")
            file.parent.mkdir(parents=True, exist_ok=True)
            sample = SAMPLES.get(file.suffix, b"sample\n")
            with open(file, "wb") as stream:
                stream.write(sample if not bytes else sample[:bytes])
                if bytes:
                    os.truncate(stream.fileno(), bytes)
        return {"ui": ui}


SAMPLES = {
    ".svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"/>',
    ".png": bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63606060000000040001f61738550000000049454e44ae426082"),
}

NODES = (SimSampler, SimDelay, SimRaise, SimBlock, SimProgressText, SimPreviews, SimOutput)
