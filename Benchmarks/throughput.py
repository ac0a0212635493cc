"""Jobs per second of many callers, and what a job costs the bridge."""
import asyncio
import collections
import itertools
import time

import figures
import graphs
from callers import SDK, EventReader
from context import session
from peers import ComfyAPIProxy

JOBS = {1: 600, 8: 2000, 32: 3000, 256: 3000}
"""By the number of callers, in a round."""
CALLERS = 32
"""Of the comparison with comfy-api-proxy."""
PROXY_JOBS = 320
TIMES_PROXY = 10
"""The bar."""

TEXT = """
Each job makes a picture of 64 × 64 and saves it, in the simulated ComfyUI's one worker thread. Its own ceiling is the column `direct`: clients on
ComfyUI's own API with a WebSocket each (of which each is told the length of the queue whenever that changes, as ComfyUI does; the bridge is one
client). `relay` is the least that can answer `POST /run`, see above, with a WebSocket for each caller too. The processor time is the bridge's alone.
"""


async def measure(context):
    with context.simulator() as simulator:
        ceiling = await context.load("ceiling", "--url", simulator.url, "--jobs", context.pick(4000, 1000), "--frames", context.pick(5000, 1000))
        callers = await _by_callers(context, simulator)
        proxy = await _beside_proxy(context, simulator)
    jobs, previews = ceiling["jobs"]["jobs_per_second"], ceiling["previews"]
    text = TEXT + (
        f"\nThe simulator's ceiling by itself: {figures.number(jobs)} jobs/s with 32 direct clients, and {figures.number(previews['previews_per_second'])} previews/s "
        f"of 50 KB ({figures.number(previews['megabytes_per_second'])} MB/s) to one.")
    return {
        "title": "Throughput", "text": text, "tables": callers["tables"] + proxy["tables"], "bars": proxy["bars"], "plots": callers["plots"],
        "raw": callers["raw"] | proxy["raw"] | {"ceiling": ceiling},
    }


async def _by_callers(context, simulator):
    found = {}
    with context.relay(simulator) as relay:
        async with context.ready_bridge(simulator) as stored, context.ready_bridge(simulator, data="none") as memory:

            def side(command, server, callers):
                async def run():
                    jobs = context.pick(JOBS[callers], JOBS[callers] // 6)
                    cpu = server.cpu_seconds()
                    result = await context.load(command, "--url", server.url, "--callers", callers, "--jobs", jobs, "--kind", "picture")
                    if result["jobs"] != jobs or any(result["refused"].values()):
                        raise RuntimeError(f"{callers} callers of {command}: {result}")
                    return {
                        "jobs_per_second": result["jobs_per_second"], "cpu_ms_per_job": (server.cpu_seconds() - cpu) * 1000 / jobs,
                        "p50": result["latency"]["p50"], "p99": result["latency"]["p99"],
                    }
                return run

            for callers in JOBS:
                rounds = await context.in_turn(
                    context.pick(5, 2), direct=side("direct", simulator, callers), relay=side("run", relay, callers), run=side("run", stored, callers),
                    memory=side("run", memory, callers))
                found[callers] = {name: figures.columns(results) for name, results in rounds.items()}
    rows = [[
        "callers", "direct, jobs/s", "relay, jobs/s", "`/run`, jobs/s", "ratio to direct", "to relay", "memory, jobs/s", "relay, CPU per job", "`/run`, CPU of the bridge per job",
        "memory, CPU", "`/run`, p50", "p99"]]
    for callers, by in found.items():
        direct, relay, run, memory = (by[name]["jobs_per_second"] for name in ("direct", "relay", "run", "memory"))
        rows.append([
            callers, figures.cell(direct), figures.cell(relay), figures.cell(run), figures.cell(figures.ratios(run, direct)),
            figures.cell(figures.ratios(run, relay)), figures.cell(memory), figures.cell(by["relay"]["cpu_ms_per_job"], "ms"),
            figures.cell(by["run"]["cpu_ms_per_job"], "ms"), figures.cell(by["memory"]["cpu_ms_per_job"], "ms"), figures.cell(by["run"]["p50"], "ms"),
            figures.cell(by["run"]["p99"], "ms")])
    plot = {
        "name": "throughput", "title": "Jobs per second", "x": "callers", "y": "jobs/s", "log": "x",
        "series": {
            label: figures.line(found, lambda by: by[name]["jobs_per_second"])
            for label, name in (("ComfyUI directly", "direct"), ("relay", "relay"), ("POST /run", "run"), ("POST /run, --data-dir none", "memory"))
        },
    }
    return {"tables": [{"caption": "By the number of callers", "rows": rows}], "plots": [plot], "raw": {"by_callers": found}}


async def _beside_proxy(context, simulator):
    colours = itertools.count(1)
    jobs = context.pick(PROXY_JOBS, PROXY_JOBS // 2)
    troubles = collections.defaultdict(collections.Counter)
    with ComfyAPIProxy(simulator.url) as proxy:
        async with context.ready_bridge(simulator) as bridge, session() as http:
            await proxy.ready(http)
            with SDK(bridge.url, CALLERS) as ours, SDK(proxy.url, CALLERS) as theirs:

                async def by_run():
                    count = 10 * jobs
                    result = await context.load("run", "--url", bridge.url, "--callers", CALLERS, "--jobs", count, "--kind", "picture")
                    if result["jobs"] != count or any(result["refused"].values()):
                        raise RuntimeError(f"{CALLERS} callers: {result}")
                    return {"jobs_per_second": result["jobs_per_second"]}

                def by_sdk(sdk):
                    return lambda: _many(jobs, lambda caller: sdk.run(graphs.picture(next(colours)), caller))

                def by_events(name, server):
                    reader = EventReader(http, server.url)

                    async def one(_):
                        run = await reader.run(graphs.picture(next(colours)))
                        if run.trouble:
                            troubles[name][run.trouble] += 1
                            return None
                        return run.seconds

                    return lambda: _many(jobs, one)

                sides = {
                    "run": by_run, "bridge_sdk": by_sdk(ours), "proxy_sdk": by_sdk(theirs), "bridge_events": by_events("bridge_events", bridge),
                    "proxy_events": by_events("proxy_events", proxy),
                }
                found = {name: figures.columns(results) for name, results in (await context.in_turn(context.pick(5, 2), **sides)).items()}
                troubles["bridge_sdk"], troubles["proxy_sdk"] = ours.troubles, theirs.troubles
    ours_in_trouble = troubles["bridge_sdk"] + troubles["bridge_events"]
    labels = {
        "run": "bridge, `/run` (comfy-bridge-load)", "bridge_sdk": "bridge, SDK `run()`", "proxy_sdk": "comfy-api-proxy, SDK `run()`",
        "bridge_events": "bridge, submit + events (aiohttp)", "proxy_events": "comfy-api-proxy, submit + events (aiohttp)",
    }
    rows = [[f"{CALLERS} callers", "jobs/s that succeeded", "`/run` is so many times that", "jobs that went wrong for the caller"]]
    rounds = len(found["run"]["jobs_per_second"])
    for name, label in labels.items():
        wrong = ", ".join(f"{count} {trouble}" for trouble, count in troubles[name].items()) or "none"
        rows.append([
            label, figures.cell(found[name]["jobs_per_second"]), figures.cell(figures.ratios(found["run"]["jobs_per_second"], found[name]["jobs_per_second"])),
            wrong + ("" if name == "run" else f" of {rounds * jobs}")])

    def bar(name, what):
        return figures.at_least(
            f"jobs/s of {CALLERS} callers beside comfy-api-proxy ({what})", TIMES_PROXY,
            figures.median_ratio(found["run"]["jobs_per_second"], found[name]["jobs_per_second"]), "×")

    return {
        "tables": [{"caption": "Beside comfy-api-proxy", "rows": rows}],
        "bars": [
            bar("proxy_sdk", "SDK `run()`"), bar("proxy_events", "submit + events"),
            figures.at_most(f"jobs refused or lost, {CALLERS} callers", 0, ours_in_trouble.total()),
        ],
        "raw": {"beside_proxy": found, "troubles": {name: dict(counts) for name, counts in troubles.items()}},
    }


async def _many(jobs, one):
    """`one(caller)` is a job: its seconds, or None if it went wrong."""
    numbers = iter(range(jobs))

    async def calling(caller):
        return [await one(caller) for _ in numbers]

    began = time.perf_counter()
    took = await asyncio.gather(*(calling(caller) for caller in range(CALLERS)))
    seconds = time.perf_counter() - began
    return {"jobs_per_second": sum(value is not None for values in took for value in values) / seconds}
