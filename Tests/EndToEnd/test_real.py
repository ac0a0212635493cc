"""What only a real ComfyUI has: its own nodes beyond those of the simulator (scripts/test-real)."""

import json
import struct

import pytest

from conftest import COMFYUI
from http_client import curl

pytestmark = pytest.mark.skipif(not COMFYUI, reason="needs a real ComfyUI (scripts/test-real)")


def has(name):
    return bool(COMFYUI) and curl(f"{COMFYUI}/object_info/{name}").json() != {}


def run(bridge, graph, *arguments):
    reply = curl(*arguments, f"{bridge}/run", data=graph)
    assert reply.status == 200, reply.body
    return reply


@pytest.fixture
def model(tmp_path):
    """A 3D file in ComfyUI's input folder."""
    text = b'{"asset":{"version":"2.0"}}'.ljust(44)
    file = tmp_path / "triangle.glb"
    file.write_bytes(struct.pack("<4sIIII", b"glTF", 2, 20 + len(text), len(text), 0x4E4F534A) + text)
    reply = curl("-F", f"image=@{file}", "-F", "subfolder=3d", "-F", "overwrite=true", f"{COMFYUI}/upload/image").json()
    return f"{reply['subfolder']}/{reply['name']}", file.read_bytes()


def test_models_that_a_string_names(bridge, model):
    if not has("Save3DAdvanced"):
        pytest.skip("this ComfyUI has no Save3DAdvanced")
    name, data = model
    size = {"viewport_state": "", "width": 64, "height": 64}
    graph = {
        "1": {"class_type": "Load3DAdvanced", "inputs": {"model_file": name, **size}},
        "2": {"class_type": "Save3DAdvanced", "inputs": {"model_3d": ["1", 0], "filename_prefix": "3d/adv", **size}},
        "3": {"class_type": "SaveGLB", "inputs": {"mesh": ["1", 0], "filename_prefix": "3d/glb"}},
        "4": {"class_type": "Preview3DAdvanced", "inputs": {"model_3d": ["1", 0], **size}},
        "5": {"class_type": "Preview3D", "inputs": {"model_file": ["1", 0]}},
    }
    for _ in range(2):  # made, and from the cache
        outputs = run(bridge, graph).json()["outputs"]
        assert [(output["node_id"], output["content_type"], output["temporary"]) for output in outputs] == [
            ("2", "model/gltf-binary", False), ("3", "model/gltf-binary", False), ("4", "model/gltf-binary", True), ("5", "model/gltf-binary", False)]
        assert all(curl(f"{bridge}{output['url']}" if output["url"].startswith("/") else output["url"]).body == data for output in outputs)
    assert run(bridge, graph, "-H", "Accept: model/gltf-binary").body == data


def test_texts_that_are_saved(bridge):
    if not has("SaveText"):
        pytest.skip("this ComfyUI has no SaveText")
    graph = {"1": {"class_type": "SaveText", "inputs": {"text": "# héllo ☃", "filename_prefix": "texts/t", "format": "md"}}}
    text, file = run(bridge, graph).json()["outputs"]
    assert (text["type"], text["text"]) == ("text", "# héllo ☃")
    assert (file["name"].endswith(".md"), file["content_type"]) == (True, "text/markdown")
    assert curl(file["url"]).body.decode() == "# héllo ☃"


def test_drawings(bridge):
    graph = {"1": {"class_type": "SimOutput", "inputs": {"output": json.dumps({"images": [{"filename": "a.svg", "subfolder": "", "type": "output"}]}), "bytes": 0}}}
    for accept in ("image/svg+xml", "image/*"):
        assert run(bridge, graph, "-H", f"Accept: {accept}").body.startswith(b"<svg")


def test_nodes_that_save_hand_on_their_input(bridge):
    graph = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 32, "height": 32, "batch_size": 1, "color": 77}},
        "5": {"class_type": "SaveImage", "inputs": {"images": ["4", 0], "filename_prefix": "hand/last"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "hand/first"}},
        "4": {"class_type": "ImageInvert", "inputs": {"image": ["2", 0]}},
    }
    if not curl(f"{COMFYUI}/object_info/SaveImage").json()["SaveImage"]["output"]:
        pytest.skip("SaveImage has no output in this ComfyUI")
    for _ in range(2):
        names = [output["name"] for output in run(bridge, graph).json()["outputs"]]
        assert [name.split("_")[0] for name in names] == ["last", "first"], "in the order of the graph"
