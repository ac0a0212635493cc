"""From `client.submit` to the return of `client.run()` of the official SDK: comfy-bridge beside comfy-api-proxy and a direct WebSocket client.

    python3 -m venv .venv && .venv/bin/pip install -r Benchmarks/requirements.txt
    swift build -c release --product comfy-bridge
    .venv/bin/python Benchmarks/sdk_run.py [path of comfy-bridge]

The three run in turn (A B C A B C ...) against one simulator, each job with a picture of its own. After the clock has stopped it is fetched and
compared with the file that the simulator saved under the job's name. Prints a table and one JSON object.
"""
import asyncio
import contextlib
import json
import os
import statistics
import time
import uuid

import aiohttp
import comfy_sdk

from peers import ComfyAPIProxy, Process, direct, ready, setting

RUNS = {0: 41, 100: 15, 1000: 5, 3000: 5}
"""Milliseconds that a job takes: how often it is run by each."""


def graph(milliseconds, prefix):
    last = ["1", 0]
    nodes = {"1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": int.from_bytes(os.urandom(3))}}}
    if milliseconds > 0:
        nodes["2"] = {"class_type": "SimDelay", "inputs": {"image": last, "milliseconds": milliseconds, "interruptible": True}}
        last = ["2", 0]
    nodes["3"] = {"class_type": "SaveImage", "inputs": {"filename_prefix": prefix, "images": last}}
    return nodes


async def check(session, simulator, prefix, name, data=None):
    """`data`: what the caller got for the job's picture; nothing where it asks the simulator itself."""
    assert name.startswith(prefix), (name, prefix)
    async with session.get(f"{simulator.url}/view", params={"filename": name}) as answer:
        saved = await answer.read()
        assert answer.status == 200 and saved.startswith(b"\x89PNG") and saved.endswith(b"IEND\xaeB`\x82"), saved[:100]
    assert data in (None, saved), f"{name}: {len(data)} bytes, saved were {len(saved)}"


def sdk(url):
    os.environ["COMFY_BASE_URL"] = url
    return comfy_sdk.Comfy()


async def by_sdk(client, session, simulator, milliseconds, failures):
    """Again when a job is said to have failed: none of these can. comfy-api-proxy calls some that succeeded "expired"."""
    while True:
        prefix = uuid.uuid4().hex
        workflow = client.workflows.from_json(graph(milliseconds, prefix))

        def run():
            began = time.perf_counter()
            job = client.run(workflow)
            return time.perf_counter() - began, job.outputs[0].name, job.outputs[0].to_bytes()

        try:
            took, name, data = await asyncio.to_thread(run)
        except comfy_sdk.JobFailed as error:
            failures.append(str(error))
            continue
        await check(session, simulator, prefix, name, data)
        return took


async def by_socket(session, socket, simulator, client_id, milliseconds):
    prefix = uuid.uuid4().hex
    workflow = graph(milliseconds, prefix)
    began = time.perf_counter()
    image = await direct(session, socket, simulator.url, client_id, workflow)
    took = time.perf_counter() - began
    await check(session, simulator, prefix, image["filename"])
    return took


async def main():
    client_id = uuid.uuid4().hex
    with contextlib.ExitStack() as stack:
        simulator = stack.enter_context(Process("simulate", "--port", "0", "--step-delay", "0", "--log-level", "error"))
        bridge = stack.enter_context(Process("serve", "--port", "0", "--comfyui", simulator.url, "--log-level", "error"))
        proxy = stack.enter_context(ComfyAPIProxy(simulator.url))
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
                            "direct": await by_socket(session, socket, simulator, client_id, milliseconds),
                            "comfy-bridge": await by_sdk(ours, session, simulator, milliseconds, failures["comfy-bridge"]),
                            "comfy-api-proxy": await by_sdk(theirs, session, simulator, milliseconds, failures["comfy-api-proxy"]),
                        }
                        if turn > 0:  # the first warms connections up
                            for name, seconds in took.items():
                                times[name].append(seconds * 1000)
                    figures[milliseconds] = times
    print("| job of | direct client | comfy-bridge, `run()` | comfy-api-proxy, `run()` | times faster |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for milliseconds, times in figures.items():
        def cell(name):
            return f"{statistics.median(times[name]):.1f} ms ({min(times[name]):.1f}…{max(times[name]):.1f})"
        ratio = statistics.median(times["comfy-api-proxy"]) / statistics.median(times["comfy-bridge"])
        print(f"| {milliseconds} ms | {cell('direct')} | {cell('comfy-bridge')} | {cell('comfy-api-proxy')} | {ratio:.1f} |")
    print(json.dumps({
        "milliseconds": {name: {side: [round(value, 2) for value in values] for side, values in times.items()} for name, times in figures.items()},
        "reported_failed_though_done": {name: len(found) for name, found in failures.items()}, "setting": setting("comfy-sdk", "comfy-api-proxy", "aiohttp"),
    }))


asyncio.run(main())
