"""From nothing to ready, what it holds then, and how large it is on disk."""
import asyncio
import pathlib
import re
import shutil
import statistics
import subprocess
import time

import figures
import peers
from context import note, session

STATIC = pathlib.Path(__file__).parent.parent / ".build-static/release/comfy-bridge"
"""`swift build -c release --static-swift-stdlib --scratch-path .build-static --product comfy-bridge`, which takes minutes, so not built here."""
READY, RESIDENT, SIZE = 200, 40, 60
"""The bars: ms, MB, MB."""

TEXT = """
From the start of the process to the first `200` of `/readyz`: the store is open, ComfyUI's list of nodes is read and its socket is registered. comfy-api-proxy
is asked for its health, which says nothing of ComfyUI. `static` is the binary of the container, with Swift's libraries inside; the other finds them beside
the toolchain. Memory is looked at a second after that, before there was a job.
"""


async def measure(context):
    async with session() as http:
        with context.simulator() as simulator:
            sides = {"bridge": lambda: _bridge(context, context.comfy_bridge, simulator, http), "proxy": lambda: _proxy(simulator, http)}
            if STATIC.exists():
                sides["static"] = lambda: _bridge(context, STATIC, simulator, http)
            else:
                note(f"without a static binary: there is no {STATIC}")
            rounds = await context.in_turn(context.pick(11, 3), **sides)
    found = {name: figures.columns(results) for name, results in rounds.items()}
    rows = [["", "ready after", "resident then"]]
    for name, label in (("bridge", "comfy-bridge"), ("static", "comfy-bridge, static"), ("proxy", "comfy-api-proxy")):
        if name in found:
            rows.append([label, figures.cell(found[name]["ready_ms"], "ms"), figures.cell(found[name]["resident_mb"], "MB")])
    ours = found.get("static", found["bridge"])
    bars = [
        figures.at_most("exec → ready", READY, statistics.median(ours["ready_ms"]), "ms"),
        figures.at_most("resident memory when idle", RESIDENT, statistics.median(ours["resident_mb"]), "MB"),
    ]
    tables, raw = [{"rows": rows}], dict(found)
    if STATIC.exists():
        sizes = _sizes(context)
        bars.append(figures.at_most("stripped static binary", SIZE, sizes["binary"], "MB"))
        raw["sizes_mb"] = sizes
        tables.append({"caption": "On disk", "rows": [
            ["", "MB"], ["stripped static binary", figures.number(sizes["binary"])],
            ["the Debian packages that the Dockerfile adds", figures.number(sizes["packages"])],
            ["what the image adds to debian:bookworm-slim", figures.number(sizes["binary"] + sizes["packages"])]]})
    return {"title": "Cold start", "text": TEXT, "tables": tables, "bars": bars, "raw": raw}


async def _bridge(context, binary, simulator, http):
    with peers.Process(binary, "serve", "--port", 0, "--comfyui", simulator.url, "--data-dir", context.new_folder("data"), "--log-level", "error") as bridge:
        await peers.ready(http, bridge.url)
        return await _looked_at(bridge)


async def _proxy(simulator, http):
    with peers.ComfyAPIProxy(simulator.url) as proxy:
        await proxy.ready(http)
        return await _looked_at(proxy)


async def _looked_at(server):
    ready = (time.perf_counter() - server.started) * 1000
    await asyncio.sleep(1)
    return {"ready_ms": ready, "resident_mb": server.resident_kb() / 1024}


def _sizes(context):
    stripped = context.folder / "stripped"
    shutil.copyfile(STATIC, stripped)
    subprocess.run(["strip", stripped], check=True)
    dockerfile = (pathlib.Path(__file__).parent.parent / "Dockerfile").read_text(encoding="utf-8")
    names = re.findall(r"apt-get install -y --no-install-recommends (.*?) \\\n", dockerfile)[-1].split()
    said = subprocess.run(["apt-cache", "show", "--no-all-versions", *names], stdout=subprocess.PIPE, check=True, text=True).stdout
    packages = sum(int(kilobytes) for kilobytes in re.findall(r"^Installed-Size: (\d+)", said, re.MULTILINE)) * 1024
    return {"binary": stripped.stat().st_size / 1e6, "packages": packages / 1e6}
