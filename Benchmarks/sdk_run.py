"""From `client.submit` to the return of `client.run()` of the official SDK: comfy-bridge beside comfy-api-proxy and a direct WebSocket client.

    python3 -m venv .venv && .venv/bin/pip install -r Benchmarks/requirements.txt
    swift build -c release --product comfy-bridge
    .venv/bin/python Benchmarks/sdk_run.py [path of comfy-bridge]

The three run in turn (A B C A B C ...) against one simulator, each job with a picture of its own, which is fetched and looked at after the clock has stopped. Prints a table
and one JSON object.
"""
import asyncio
import importlib.metadata
import json
import os
import statistics
import time
import uuid

import aiohttp
import comfy_sdk

from peers import ComfyAPIProxy, Process, direct, ready

RUNS = {0: 15, 100: 9, 1000: 5, 3000: 3}
"""Milliseconds that a job takes: how often it is run by each."""


def graph(milliseconds):
    return {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": int.from_bytes(os.urandom(3))}},
        "2": {"class_type": "SimDelay", "inputs": {"image": ["1", 0], "milliseconds": milliseconds, "interruptible": True}},
        "3": {"class_type": "SaveImage", "inputs": {"filename_prefix": uuid.uuid4().hex, "images": ["2", 0]}},
    }


def check(picture):
    assert picture.startswith(b"\x89PNG") and picture.endswith(b"IEND\xaeB`\x82"), picture[:100]


def sdk(url):
    os.environ["COMFY_BASE_URL"] = url
    return comfy_sdk.Comfy()


def run_by_sdk(client, milliseconds, failures):
    """Again when a job is said to have failed: none of these can. comfy-api-proxy calls some that succeeded "expired"."""
    while True:
        workflow = client.workflows.from_json(graph(milliseconds))
        began = time.perf_counter()
        try:
            job = client.run(workflow)
        except comfy_sdk.JobFailed as error:
            failures.append(str(error))
            continue
        took = time.perf_counter() - began
        check(job.outputs[0].to_bytes())
        return took


async def run_directly(session, socket, simulator, client_id, milliseconds):
    workflow = graph(milliseconds)
    began = time.perf_counter()
    image = await direct(session, socket, simulator.url, client_id, workflow)
    took = time.perf_counter() - began
    async with session.get(f"{simulator.url}/view", params=image) as answer:
        check(await answer.read())
    return took


async def main():
    simulator = Process("simulate", "--port", "0", "--step-delay", "0")
    bridge = Process("serve", "--port", "0", "--comfyui", simulator.url)
    proxy = ComfyAPIProxy(simulator.url)
    client_id = uuid.uuid4().hex
    try:
        async with aiohttp.ClientSession() as session, session.ws_connect(f"{simulator.url}/ws?clientId={client_id}", max_msg_size=0) as socket:
            await proxy.ready(session)
            await ready(session, bridge.url)
            with sdk(bridge.url) as ours, sdk(proxy.url) as theirs:
                figures = {}
                failures = {"comfy-bridge": [], "comfy-api-proxy": []}
                for milliseconds, runs in RUNS.items():
                    times = {"direct": [], "comfy-bridge": [], "comfy-api-proxy": []}
                    for turn in range(runs + 1):
                        took = {
                            "direct": await run_directly(session, socket, simulator, client_id, milliseconds),
                            "comfy-bridge": await asyncio.to_thread(run_by_sdk, ours, milliseconds, failures["comfy-bridge"]),
                            "comfy-api-proxy": await asyncio.to_thread(run_by_sdk, theirs, milliseconds, failures["comfy-api-proxy"]),
                        }
                        if turn > 0:  # the first warms connections up
                            for name, seconds in took.items():
                                times[name].append(seconds * 1000)
                    figures[milliseconds] = times
    finally:
        proxy.stop()
        bridge.stop()
        simulator.stop()
    print("| job of | direct client | comfy-bridge, `run()` | comfy-api-proxy, `run()` | times faster |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for milliseconds, times in figures.items():
        def cell(name):
            return f"{statistics.median(times[name]):.1f} ms ({min(times[name]):.1f}…{max(times[name]):.1f})"
        ratio = statistics.median(times["comfy-api-proxy"]) / statistics.median(times["comfy-bridge"])
        print(f"| {milliseconds} ms | {cell('direct')} | {cell('comfy-bridge')} | {cell('comfy-api-proxy')} | {ratio:.1f} |")
    versions = {name: importlib.metadata.version(name) for name in ("comfy-sdk", "comfy-api-proxy", "aiohttp")}
    print(json.dumps({"milliseconds": {name: {k: [round(x, 2) for x in v] for k, v in times.items()} for name, times in figures.items()},
                      "reported_failed_though_done": {name: len(found) for name, found in failures.items()}, "versions": versions}))


asyncio.run(main())
