"""The first figures of the bridge: latency beside a direct WebSocket client, throughput, memory, start.

    python3 -m venv .venv && .venv/bin/pip install -r Benchmarks/requirements.txt
    swift build -c release --product comfy-bridge
    .venv/bin/python Benchmarks/first_figures.py [path of comfy-bridge]

Both sides of a comparison run in turn (A B A B ...) in this one process, against the same simulator. Every answer is
checked; a wrong one ends the run. Prints one JSON object. The bridge keeps everything in memory, unless COMFY_BRIDGE_DATA_DIR names a folder.
"""
import asyncio
import json
import statistics
import time
import uuid

import aiohttp

from peers import Process, direct, ready

RUNS = 200
CALLERS = 32
STREAMS = 5000


def one_step(seed):
    return {
        "3": {"class_type": "KSampler", "inputs": {
            "seed": seed, "steps": 1, "cfg": 7.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0,
            "model": ["4", 0], "positive": ["6", 0], "negative": ["6", 0], "latent_image": ["5", 0]}},
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd15.safetensors"}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a", "clip": ["4", 1]}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
        "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "b", "images": ["8", 0]}},
    }


def picture(seed):
    return {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": seed}},
        "2": {"class_type": "SaveImage", "inputs": {"filename_prefix": "b", "images": ["1", 0]}},
    }


def delay(milliseconds):
    return {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}},
        "2": {"class_type": "SimDelay", "inputs": {"image": ["1", 0], "milliseconds": milliseconds, "interruptible": True}},
        "3": {"class_type": "SaveImage", "inputs": {"filename_prefix": "b", "images": ["2", 0]}},
    }


async def through_bridge(session, bridge, graph):
    async with session.post(f"{bridge}/run", json=graph) as answer:
        job = await answer.json()
        assert answer.status == 200 and job["status"] == "succeeded" and job["outputs"][0]["size_bytes"] > 0, job


async def latency(session, simulator, bridge):
    client_id = uuid.uuid4().hex
    times = {"direct": [], "bridge": []}
    async with session.ws_connect(f"{simulator}/ws?clientId={client_id}", max_msg_size=0) as socket:
        await socket.send_json({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
        for seed in range(2 * (RUNS + 20)):
            side = ("direct", "bridge")[seed % 2]
            begin = time.perf_counter()
            if side == "direct":
                await direct(session, socket, simulator, client_id, one_step(seed))
            else:
                await through_bridge(session, bridge, one_step(seed))
            if seed >= 40:
                times[side].append((time.perf_counter() - begin) * 1000)
    median = {side: statistics.median(values) for side, values in times.items()}
    p90 = {side: statistics.quantiles(values, n=10)[-1] for side, values in times.items()}
    return {
        "runs": RUNS, "median_ms": median, "p90_ms": p90, "ratio": median["bridge"] / median["direct"],
        "difference_ms": median["bridge"] - median["direct"],
    }


async def throughput(session, bridge, jobs=4000):
    seeds = iter(range(1, jobs + 1))

    async def caller():
        for seed in seeds:
            await through_bridge(session, bridge.url, picture(seed))

    cpu, begin = bridge.cpu_seconds(), time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    seconds = time.perf_counter() - begin
    return {"callers": CALLERS, "jobs": jobs, "jobs_per_second": jobs / seconds, "bridge_cpu_ms_per_job": (bridge.cpu_seconds() - cpu) * 1000 / jobs}


async def idle_streams(session, bridge):
    async with session.post(f"{bridge.url}/run", json=delay(600_000), headers={"Prefer": "respond-async"}) as answer:
        job = await answer.json()
    before = bridge.resident_kb()
    address = bridge.url.split("//")[1]
    host, port = address.split(":")
    request = f"GET {job['urls']['events']} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode()
    writers = []
    for _ in range(STREAMS):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(request)
        head = await reader.readuntil(b"event: status")
        assert head.startswith(b"HTTP/1.1 200"), head
        writers.append(writer)
    after = bridge.resident_kb()
    for writer in writers:
        writer.close()
    async with session.post(f"{bridge.url}{job['urls']['cancel']}") as answer:
        assert answer.status == 200
    return {"streams": STREAMS, "resident_mb": after / 1024, "kb_per_stream": (after - before) / STREAMS}


async def start_time(session, simulator):
    times = []
    for _ in range(9):
        bridge = Process("serve", "--port", "0", "--comfyui", simulator)
        await ready(session, bridge.url)
        times.append((time.perf_counter() - bridge.started) * 1000)
        bridge.stop()
    return statistics.median(times)


async def main():
    simulator = Process("simulate", "--port", "0", "--step-delay", "0", "--preview-size", "64", "--log-level", "error")
    result = {"machine": f"{os.cpu_count()} cores, {os.uname().release}"}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=120)) as session:
        result["exec_to_ready_ms"] = await start_time(session, simulator.url)
        bridge = Process("serve", "--port", "0", "--comfyui", simulator.url, "--log-level", "error")
        await ready(session, bridge.url)
        result["idle_resident_mb"] = bridge.resident_kb() / 1024
        result["latency"] = await latency(session, simulator.url, bridge.url)
        result["throughput"] = await throughput(session, bridge)
        result["resident_mb_after_throughput"] = bridge.resident_kb() / 1024
        result["idle_streams"] = await idle_streams(session, bridge)
        bridge.stop()
    simulator.stop()
    print(json.dumps(result, indent=2))


asyncio.run(main())
