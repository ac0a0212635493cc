"""Names of files that lead out of ComfyUI's folders, and outputs of others by their names."""

import json

import pytest

import workflows
from http_client import curl


def copying(image):
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": image}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "copy"}},
    }


@pytest.mark.parametrize("image", [
    "/etc/x.png", {"__value__": "/etc/x.png"}, {"__value__": "/etc/x.png", "__type": "core/ASSET", "info": {"id": "x"}}, {"__value__": {"__value__": "../x.png"}},
    {"__value__": ["/etc/x.png"]}, ["/etc/x.png"], "..\\..\\x.png", "C:\\x.png", "../output/x.png [output]", "x.png\0",
], ids=json.dumps)
def test_name_of_a_file_elsewhere(bridge, image):
    reply = curl(f"{bridge}/run", data=copying(image))
    assert reply.status == 422
    [fault] = reply.json()["error"]["details"]["node_errors"]["1"]
    assert (fault["field"], fault["reason"]) == ("image", "unsafe_path")


@pytest.mark.parametrize("link", ['{"__value__": ["1", 0]}', '["1", true]', '["1", 0.0]'])
def test_loader_behind_a_hidden_link(bridge, link):
    """ComfyUI runs what hangs on it without having looked at its inputs."""
    graph = {**copying("/etc/x.png"), "2": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "copy", "undeclared": json.loads(link)}},
             "3": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}}}
    reply = curl(f"{bridge}/run", data=graph)
    assert reply.status == 422
    assert reply.json()["error"]["details"]["node_errors"]["1"][0]["reason"] == "unsafe_path"


def test_name_that_is_written(bridge):
    for prefix in ("../x", "/tmp/x", {"__value__": "a/../../x"}):
        graph = workflows.plain()
        graph["3"]["inputs"]["filename_prefix"] = prefix
        reply = curl(f"{bridge}/run", data=graph)
        assert reply.status == 422
        assert reply.json()["error"]["details"]["node_errors"]["3"][0]["reason"] == "unsafe_path"


def test_isolated_outputs(bridge, start_bridge):
    isolated = start_bridge("--isolate-outputs").url
    [output] = curl(f"{isolated}/run", data=workflows.plain(prefix="secret")).json()["outputs"]
    name = f"{output['name']} [output]"
    by_id = {"__type": "core/ASSET", "info": {"id": output["id"]}}
    for image in (name, {"__value__": name}, output["name"] + "[output]"):
        reply = curl(f"{isolated}/run", data=copying(image))
        assert reply.status == 422
        [fault] = reply.json()["error"]["details"]["node_errors"]["1"]
        assert fault["reason"] == "isolated_output" and "--isolate-outputs" in fault["message"]
    assert curl(f"{isolated}/run", data=copying(by_id)).status == 200
    assert curl(f"{isolated}/run", data=copying({"__value__": by_id})).status == 200
    assert curl(f"{bridge}/run", data=copying(name)).status == 200, "which others may"


def test_uploads_are_found_in_a_wrapper(bridge, tmp_path):
    [output] = curl(f"{bridge}/run", data=workflows.plain(color=0x010203, prefix="wrapped")).json()["outputs"]
    picture = tmp_path / "wrapped-upload.png"
    picture.write_bytes(curl(output["url"]).body)
    assert curl("-F", f"file=@{picture}", f"{bridge}/api/v2/assets").status == 201
    assert curl(f"{bridge}/run", data=copying({"__value__": picture.name})).status == 200
