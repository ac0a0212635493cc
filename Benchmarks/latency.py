"""One caller, one job after the other: from the request to the knowledge that it is done."""
import itertools
import statistics

import figures
import graphs
from callers import SDK, EventReader
from context import session
from peers import ComfyAPIProxy

JOBS = {"one-step": 200, "delay:12": 40, "delay:100": 8}
"""How often each is run in a round."""
NAMES = {"one-step": "one step, no time", "delay:12": "12 ms", "delay:100": "100 ms"}
PROXY_JOBS = {0: 10, 12: 3, 100: 3}
"""The same by milliseconds through Python clients. A job that takes time takes half a second through comfy-api-proxy."""
TIMES_FASTER = {12: 20, 100: 4.5}
"""The bars."""


async def measure(context):
    with context.simulator() as simulator:
        beside_direct = await _beside_direct(context, simulator)
        beside_proxy = await _beside_proxy(context, simulator)
    tables, bars, plots, raw = [], [], [], {}
    for part in (beside_direct, beside_proxy):
        tables.append(part["table"])
        bars += part["bars"]
        raw |= part["raw"]
        plots += part["plots"]
    return {"title": "Latency of a job", "tables": tables, "bars": bars, "plots": plots, "raw": raw, "text": TEXT}


TEXT = """
`direct`: a client on ComfyUI's own API, which submits and waits on its WebSocket for the end; it does not ask for the outputs, and its connections are
kept. `/run`: a blocking `POST /run` on a kept connection, whose answer names the outputs, looked up and with their size. Both are comfy-bridge-load.
`memory` is the bridge with `--data-dir none`; otherwise every job and event is on the disk before it is told. `relay` is the least that can answer
`POST /run` (`comfy-bridge-load relay`): it hands the workflow on unread, waits on a socket of its own for each caller, asks for the size of the picture
and answers; it keeps nothing. What it takes above the direct client is the price of the second hop and of the answer's contents.
"""


async def _beside_direct(context, simulator):
    found = {}
    with context.relay(simulator) as relay:
        async with context.ready_bridge(simulator) as stored, context.ready_bridge(simulator, data="none") as memory:
            for kind, jobs in JOBS.items():
                jobs = context.pick(jobs, jobs // 2)

                def side(command, url, kind=kind, jobs=jobs):
                    return lambda: context.load(command, "--url", url, "--callers", 1, "--jobs", jobs, "--kind", kind)

                await side("run", stored.url, jobs=5)()  # warms up
                rounds = await context.in_turn(
                    context.pick(11, 3), direct=side("direct", simulator.url), relay=side("run", relay.url), run=side("run", stored.url),
                    memory=side("run", memory.url))
                found[kind] = {name: {part: [result["latency"][part] for result in results] for part in ("p50", "p99")} for name, results in rounds.items()}
    rows = [[
        "a job of", "direct, p50", "relay, p50", "ratio", "/run, p50", "ratio", "above direct", "ratio to relay", "memory, p50", "ratio", "p99: direct", "relay", "/run",
        "memory"]]
    for kind, by in found.items():
        direct, relay, run, memory = (by[name]["p50"] for name in ("direct", "relay", "run", "memory"))
        rows.append([
            NAMES[kind], figures.cell(direct, "ms"), figures.cell(relay, "ms"), figures.cell(figures.ratios(relay, direct)), figures.cell(run, "ms"),
            figures.cell(figures.ratios(run, direct)), figures.cell([a - b for a, b in zip(run, direct)], "ms"), figures.cell(figures.ratios(run, relay)),
            figures.cell(memory, "ms"), figures.cell(figures.ratios(memory, direct)),
            *(figures.cell(by[name]["p99"], "ms") for name in ("direct", "relay", "run", "memory"))])
    shortest = {name: by["p50"] for name, by in found["one-step"].items()}
    return {
        "table": {"caption": "POST /run beside the direct client", "rows": rows},
        "bars": [
            figures.at_most("`/run` of a 1-step job beside the direct client", 1.3, figures.median_ratio(shortest["run"], shortest["direct"]), "×"),
            figures.at_most(
                "`/run` of a 1-step job, above the direct client", 2, statistics.median(a - b for a, b in zip(shortest["run"], shortest["direct"])), "ms"),
        ],
        "plots": [],
        "raw": {"beside_direct_ms": found},
    }


async def _beside_proxy(context, simulator):
    colours = itertools.count(1)
    found, troubles = {}, {}
    with ComfyAPIProxy(simulator.url) as proxy:
        async with context.ready_bridge(simulator) as bridge, session() as http:
            await proxy.ready(http)
            with SDK(bridge.url) as ours, SDK(proxy.url) as theirs:
                readers = {"bridge_events": EventReader(http, bridge.url), "proxy_events": EventReader(http, proxy.url)}
                for milliseconds, jobs in PROXY_JOBS.items():

                    def by_sdk(sdk, milliseconds=milliseconds, jobs=jobs):
                        async def side():
                            took = [await sdk.run(graphs.delay(milliseconds, next(colours))) for _ in range(jobs)]
                            took = [seconds for seconds in took if seconds is not None]
                            return statistics.median(took) * 1000 if took else None
                        return side

                    def by_events(name, milliseconds=milliseconds, jobs=jobs):
                        async def side():
                            runs = [await readers[name].run(graphs.delay(milliseconds, next(colours))) for _ in range(jobs)]
                            for run in runs:
                                if run.trouble:
                                    troubles.setdefault(name, []).append(run.trouble)
                            took = [run.seconds for run in runs if not run.trouble]
                            return statistics.median(took) * 1000 if took else None
                        return side

                    async def by_run(milliseconds=milliseconds, jobs=jobs):
                        result = await context.load("run", "--url", bridge.url, "--callers", 1, "--jobs", jobs, "--kind",
                            f"delay:{milliseconds}" if milliseconds else "picture")
                        return result["latency"]["p50"]

                    sides = {
                        "run": by_run, "bridge_sdk": by_sdk(ours), "proxy_sdk": by_sdk(theirs), "bridge_events": by_events("bridge_events"),
                        "proxy_events": by_events("proxy_events"),
                    }
                    for name in ("bridge_sdk", "proxy_sdk"):
                        await sides[name]()  # warms up
                    found[milliseconds] = await context.in_turn(context.pick(7, 2), **sides)
                if ours.troubles or "bridge_events" in troubles:
                    raise RuntimeError(f"the bridge failed: {ours.troubles} {troubles.get('bridge_events')}")
                troubles = {"sdk": dict(theirs.troubles), "events": troubles.get("proxy_events", [])}
    rows = [[
        "a job of", "bridge, `/run`", "bridge, SDK `run()`", "proxy, SDK `run()`", "`/run` is faster than that", "bridge, submit + events", "proxy, submit + events",
        "`/run` is faster than that"]]
    bars = []
    for milliseconds, by in found.items():
        def times_faster(name):
            return [theirs / ours for ours, theirs in zip(by["run"], by[name]) if theirs is not None]

        def cell(name):
            return figures.cell([value for value in by[name] if value is not None], "ms")

        rows.append([
            f"{milliseconds} ms", cell("run"), cell("bridge_sdk"), cell("proxy_sdk"), figures.cell(times_faster("proxy_sdk"), "×"), cell("bridge_events"),
            cell("proxy_events"), figures.cell(times_faster("proxy_events"), "×")])
        if milliseconds in TIMES_FASTER:
            bars.append(figures.at_least(
                f"`/run` of a {milliseconds} ms job, faster than `run()` through comfy-api-proxy", TIMES_FASTER[milliseconds],
                statistics.median(times_faster("proxy_sdk")), "×"))
    plot = {
        "name": "latency", "title": "One job, one caller", "x": "time that the job itself takes", "y": "ms", "log": "y",
        "series": {
            label: {"x": [f"{milliseconds} ms" for milliseconds in found], "y": [statistics.median(v for v in by[name] if v is not None) for by in found.values()]}
            for label, name in (
                ("comfy-bridge, POST /run", "run"), ("comfy-bridge, SDK", "bridge_sdk"), ("comfy-api-proxy, SDK", "proxy_sdk"),
                ("comfy-api-proxy, events", "proxy_events"))
        },
    }
    return {
        "table": {"caption": "Beside comfy-api-proxy", "rows": rows}, "bars": bars, "plots": [plot],
        "raw": {"beside_proxy_ms": found, "proxy_called_failed": troubles},
    }
