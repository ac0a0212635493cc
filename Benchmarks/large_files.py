"""Files of 1 GB through the bridge: time beside a direct download, and resident memory, which must stay below 80 MB.

    swift build -c release --product comfy-bridge
    .venv/bin/python Benchmarks/large_files.py [path of comfy-bridge]

Uploads a file with `curl -F`, downloads it again, downloads an output of a job, and the same output straight from ComfyUI (the simulator), in
turn. Every byte is compared. Prints one JSON object.
"""
import asyncio
import json
import os
import statistics
import subprocess
import tempfile
import time

import aiohttp

from peers import Process, ready

SIZE = 1 << 30
TURNS = 3


def curl(*arguments):
    began = time.perf_counter()
    done = subprocess.run(["curl", "-sS", "--fail-with-body", *arguments], capture_output=True, check=True)
    return done.stdout, SIZE / 1e6 / (time.perf_counter() - began)


def same(left, right):
    return subprocess.run(["cmp", left, right]).returncode == 0


async def make_output(bridge):
    """A job of the simulator that puts out a file of that size."""
    output = {"images": [{"filename": "large.bin", "subfolder": "", "type": "output"}]}
    graph = {"1": {"class_type": "SimOutput", "inputs": {"output": json.dumps(output), "bytes": SIZE}}}
    async with aiohttp.ClientSession() as session:
        await ready(session, bridge.url)
        async with session.post(f"{bridge.url}/run", json=graph) as answer:
            job = await answer.json()
    assert job["outputs"][0]["size_bytes"] == SIZE, job
    return job["outputs"][0]["url"]


def main():
    simulator = Process("simulate", "--port", "0")
    bridge = Process("serve", "--port", "0", "--comfyui", simulator.url)
    speeds = {"upload": [], "download of the upload": [], "download of an output": [], "download from ComfyUI": []}
    with tempfile.TemporaryDirectory() as folder:
        file, copy = f"{folder}/file", f"{folder}/copy"
        try:
            idle = bridge.resident_kb()
            output = asyncio.run(make_output(bridge))
            for _ in range(TURNS):
                with open(file, "wb") as target:
                    for _ in range(SIZE >> 20):
                        target.write(os.urandom(1 << 20))
                answer, speed = curl("-F", f"file=@{file}", "-F", "file_path=large.bin", "-F", "content_type=application/octet-stream", f"{bridge.url}/api/v2/assets")
                asset = json.loads(answer)
                assert asset["size_bytes"] == SIZE and asset["created_new"], asset
                speeds["upload"].append(speed)
                speeds["download of the upload"].append(curl("-o", copy, asset["url"])[1])
                assert same(file, copy)
                speeds["download of an output"].append(curl("-o", copy, output)[1])
                speeds["download from ComfyUI"].append(curl("-o", file, f"{simulator.url}/view?filename=large.bin&type=output")[1])
                assert same(file, copy)
                curl("-X", "DELETE", f"{bridge.url}/api/v2/assets/{asset['id']}")
            peak = bridge.peak_kb()
        finally:
            bridge.stop()
            simulator.stop()
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    print(json.dumps({
        "bytes": SIZE, "MB_per_s": medians, "all": speeds, "ratio_of_output_to_direct": medians["download of an output"] / medians["download from ComfyUI"],
        "resident_MB": {"idle": idle / 1024, "peak": peak / 1024},
    }, indent=2))
    assert peak < 80 * 1024, f"the bridge held {peak / 1024:.0f} MB"


main()
