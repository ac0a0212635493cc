"""scripts/record, on the simulated ComfyUI: what it plays of the recordings comes back as they have it."""

import json
import subprocess

import pytest

from contract import ROOT

pytestmark = pytest.mark.simulated("its ComfyUI has a known version")


def record(*arguments):
    return subprocess.run([ROOT / "scripts/record", *arguments], capture_output=True, text=True, timeout=120)


def test_scenarios_that_need_no_test_nodes(simulator, tmp_path):
    done = record(simulator.url, "save_text", "view_active_content", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "save_text: same" in done.stdout and "view_active_content: same" in done.stdout, done.stdout
    for name in ("save_text", "view_active_content"):
        theirs, ours = ([json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
                        for folder in (ROOT / "Tests/ComfyUITests/Recordings/v0.33", tmp_path))
        assert [line["ms"] for line in ours] == sorted(line["ms"] for line in ours)
        count = lambda lines: [sum(line["ev"] == kind for line in lines) for kind in ("meta", "http_request", "http_response", "ws_open", "ws_close")]  # noqa: E731
        assert count(ours) == count(theirs)
        requests = [line for line in ours if line["ev"] == "http_request"]
        assert all(set(request) >= {"id", "client", "method", "path", "query", "headers", "body_len"} for request in requests)


def test_a_comfyui_without_the_test_nodes(simulator, tmp_path):
    done = record(simulator.url, "cached_full", "--out", tmp_path)
    assert done.returncode != 0 and "custom_nodes" in done.stderr
