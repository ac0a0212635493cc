"""Nodes that bring about what recordings are to show. For ComfyUI's custom_nodes; see scripts/record.

Their inputs and what they do are those of the recordings in Tests/ComfyUITests/Recordings, whose graphs name them.
"""

import asyncio
import math
import time

import torch
from PIL import Image

import comfy.model_management
import comfy.utils
import folder_paths
from comfy_execution.graph import ExecutionBlocker
from comfy_execution.graph_utils import GraphBuilder
from server import PromptServer

SIZE = 64


def pictures(seed, count=1, size=SIZE):
    """Pictures of one colour each, which the seed decides."""
    generator = torch.Generator().manual_seed(seed % (1 << 63))
    return torch.rand((count, 1, 1, 3), generator=generator).expand(count, size, size, 3).clone()


def preview(step, pixels):
    return ("JPEG", Image.new("RGB", (pixels, pixels), ((step * 40) % 256, 80, 160)), pixels)


def required(**inputs):
    return {"required": inputs}


SEED = ("INT", {"default": 0, "min": 0, "max": 0xFFFFFFFFFFFFFFFF})
COUNT = ("INT", {"default": 1, "min": 0, "max": 1 << 40})
TEXT = ("STRING", {"default": "", "multiline": True})
PICTURE = ("IMAGE",)


class Node:
    CATEGORY = "comfy-bridge/recording"
    FUNCTION = "run"
    RETURN_TYPES = ("IMAGE",)


class RecSampler(Node):
    """Steps with a preview each, like a sampler."""

    @classmethod
    def INPUT_TYPES(cls):
        return {**required(seed=SEED, steps=COUNT, delay_ms=COUNT, preview_px=COUNT, batch=COUNT), "optional": {"image": PICTURE}}

    def run(self, seed, steps, delay_ms, preview_px, batch, image=None):
        bar = comfy.utils.ProgressBar(steps)
        for step in range(steps):
            comfy.model_management.throw_exception_if_processing_interrupted()
            time.sleep(delay_ms / 1000)
            bar.update_absolute(step + 1, steps, preview(step, preview_px) if preview_px else None)
        return (pictures(seed, max(1, batch)),)


class RecSleep(Node):
    @classmethod
    def INPUT_TYPES(cls):
        return required(image=PICTURE, ms=COUNT, interruptible=("BOOLEAN", {"default": True}))

    def run(self, image, ms, interruptible):
        end = time.monotonic() + ms / 1000
        while (left := end - time.monotonic()) > 0:
            if interruptible:
                comfy.model_management.throw_exception_if_processing_interrupted()
            time.sleep(min(left, 0.05) if interruptible else left)
        return (image,)


class RecRaise(Node):
    @classmethod
    def INPUT_TYPES(cls):
        return required(image=PICTURE, steps=COUNT, message=TEXT)

    def run(self, image, steps, message):
        bar = comfy.utils.ProgressBar(steps + 2)
        for step in range(steps):
            bar.update_absolute(step + 1, steps + 2)
        raise RuntimeError(message)


class RecText(Node):
    OUTPUT_NODE = True
    RETURN_TYPES = ("STRING",)

    @classmethod
    def INPUT_TYPES(cls):
        return required(text=TEXT)

    def run(self, text):
        return {"ui": {"text": [text]}, "result": (text,)}


class RecProgressText(Node):
    @classmethod
    def INPUT_TYPES(cls):
        return {**required(image=PICTURE, text=TEXT, broadcast=("BOOLEAN", {"default": True})), "hidden": {"node": "UNIQUE_ID"}}

    def run(self, image, text, broadcast, node):
        server = PromptServer.instance
        server.send_progress_text(text, node, None if broadcast else server.client_id)
        return (image,)


class RecCustomEvent(Node):
    @classmethod
    def INPUT_TYPES(cls):
        return {**required(image=PICTURE, event=("STRING", {"default": "rec.custom"})), "hidden": {"node": "UNIQUE_ID"}}

    def run(self, image, event, node):
        PromptServer.instance.send_sync(event, {"node": node, "hello": "world"})
        return (image,)


class RecExpand(Node):
    @classmethod
    def INPUT_TYPES(cls):
        return required(seed=SEED, count=COUNT, with_preview=("BOOLEAN", {"default": False}))

    def run(self, seed, count, with_preview):
        graph = GraphBuilder()
        last = None
        for index in range(max(1, count)):
            inputs = {"seed": seed + index, "steps": 2, "delay_ms": 5, "preview_px": 64, "batch": 1}
            last = graph.node("RecSampler", **inputs, **({"image": last} if last else {})).out(0)
        scaled = graph.node("ImageScale", image=last, upscale_method="nearest-exact", width=32, height=32, crop="disabled").out(0)
        if with_preview:
            graph.node("PreviewImage", images=scaled)
        return {"result": (scaled,), "expand": graph.finalize()}


class RecExpandRaise(Node):
    @classmethod
    def INPUT_TYPES(cls):
        return required(seed=SEED)

    def run(self, seed):
        graph = GraphBuilder()
        picture = graph.node("RecSampler", seed=seed, steps=1, delay_ms=5, preview_px=64, batch=1).out(0)
        failing = graph.node("RecRaise", image=picture, steps=1, message="failure inside an expanded node").out(0)
        return {"result": (failing,), "expand": graph.finalize()}


class RecBlock(Node):
    @classmethod
    def INPUT_TYPES(cls):
        return required(image=PICTURE, message=TEXT)

    def run(self, image, message):
        return (ExecutionBlocker(message or None),)


class RecAsync(Node):
    @classmethod
    def INPUT_TYPES(cls):
        return {**required(seed=SEED, steps=COUNT, delay_ms=COUNT), "hidden": {"node": "UNIQUE_ID"}}

    async def run(self, seed, steps, delay_ms, node):
        bar = comfy.utils.ProgressBar(steps, node_id=node)
        for step in range(steps):
            await asyncio.sleep(delay_ms / 1000)
            bar.update_absolute(step + 1, steps, preview(step, 64))
        return (pictures(seed),)


class RecImageList(Node):
    OUTPUT_IS_LIST = (True,)

    @classmethod
    def INPUT_TYPES(cls):
        return required(seed=SEED, count=COUNT)

    def run(self, seed, count):
        return ([pictures(seed + index, size=16 + 8 * index) for index in range(count)],)


class RecAudio(Node):
    RETURN_TYPES = ("AUDIO",)

    @classmethod
    def INPUT_TYPES(cls):
        return required(hz=("FLOAT", {"default": 440.0}), ms=COUNT)

    def run(self, hz, ms):
        rate = 8000
        wave = torch.sin(torch.arange(rate * ms // 1000) * (2 * math.pi * hz / rate))
        return ({"waveform": wave[None, None], "sample_rate": rate},)


class RecOddUI(Node):
    OUTPUT_NODE = True
    RETURN_TYPES = ()

    @classmethod
    def INPUT_TYPES(cls):
        return required(kind=("STRING", {"default": "many"}), seed=SEED)

    def run(self, kind, seed):
        if kind == "rgba_jpeg":
            PromptServer.instance.send_sync(1, ("JPEG", Image.new("RGBA", (8, 8)), None), PromptServer.instance.client_id)
        return {"ui": {
            "gifs": {"gifs": [{
                "filename": "rec_00001.mp4", "subfolder": "vid", "type": "output", "format": "video/h264-mp4", "frame_rate": 8.0,
                "workflow": "rec_00001.png", "fullpath": f"{folder_paths.get_output_directory()}/vid/rec_00001.mp4"}]},
            "many": {"text": ["a", "b"], "float": [1.5], "value": [7], "bool": [True], "none": [None]},
            "nested": {"tags": [["x", "y"], ["z"]], "result": ["model.glb", {"position": {"x": 0, "y": 1}}]},
            "unserialisable": {"bad": [object()]},
        }.get(kind, {"text": [kind]})}


class RecOOM(Node):
    @classmethod
    def INPUT_TYPES(cls):
        return required(image=PICTURE, kind=("STRING", {"default": "torch"}), seed=SEED)

    def run(self, image, kind, seed):
        if kind == "torch":
            raise torch.OutOfMemoryError("Allocation on device 0 would exceed allowed memory. (out of memory)")
        if kind == "cuda_message":
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        text = "CUDA error: an illegal memory access was encountered" if kind == "illegal" else "CUDA error: out of memory"
        error = torch.AcceleratorError(text + "\nCUDA kernel errors might be asynchronously reported at some other API call")
        if kind == "accelerator":
            error.error_code = 2
        raise error


NODE_CLASS_MAPPINGS = {node.__name__: node for node in (
    RecSampler, RecSleep, RecRaise, RecText, RecProgressText, RecCustomEvent, RecExpand, RecExpandRaise, RecBlock, RecAsync, RecImageList, RecAudio,
    RecOddUI, RecOOM)}

from .simulated import NODES as SIMULATED  # noqa: E402 — it takes its parts from here

NODE_CLASS_MAPPINGS |= {node.__name__: node for node in SIMULATED}
