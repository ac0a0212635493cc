"""Previews at the pace of a fast sampler: how long each is on its way, and whether all arrive."""
import statistics
import time

import figures
import graphs
from context import session
from peers import ComfyAPIProxy, Process

RATE = 20
SIZE = 51_200
VIEWERS = [1, 100]
FIRST = 20
"""Jobs of a round whose first event is awaited."""
P99 = 20
"""The bar, in ms."""

TEXT = f"""
{RATE} previews per second of {SIZE // 1024} KB. Each carries the time at which the simulated ComfyUI sent it; the delay ends where the viewer has parsed the
event and checked its number and its bytes, and counts every preview of every viewer. `floor`: a C program on libmicrohttpd that gets the same
events by POST and only fans them out.
"""


async def measure(context):
    tables, bars, raw = [], [], {}
    with context.simulator() as simulator, Process(context.floor) as floor:
        async with context.ready_bridge(simulator) as bridge:
            rows = [["viewers", "bridge, p50", "p99", "floor, p50", "p99", "p99, ratio", "delivered", "CPU of the bridge", "of the floor"]]
            for viewers in VIEWERS:
                found = await context.in_turn(
                    context.pick(3, 1), bridge=_watching(context, bridge, viewers), floor=_watching(
                        context, floor, viewers, "--dialect", "plain", "--path", "/events", "--publish", f"{floor.url}/publish"))
                found = {name: figures.columns(results) for name, results in found.items()}
                ours, theirs = found["bridge"], found["floor"]
                rows.append([
                    viewers, figures.cell(ours["p50"], "ms"), figures.cell(ours["p99"], "ms"), figures.cell(theirs["p50"], "ms"),
                    figures.cell(theirs["p99"], "ms"), figures.cell(figures.ratios(ours["p99"], theirs["p99"])),
                    f"{min(ours['delivered']) * 100:g} %", figures.cell(ours["cpu_percent"], "%"), figures.cell(theirs["cpu_percent"], "%")])
                bars.append(figures.at_least(f"previews delivered, {viewers} viewer{'s'[:viewers - 1]}", 100, min(ours["delivered"]) * 100, "%"))
                if viewers == max(VIEWERS):
                    bars.append(figures.at_most(f"p99 delay of a preview, {viewers} viewers", P99, statistics.median(ours["p99"]), "ms"))
                raw[viewers] = found
            tables.append({"caption": "Delay of a preview", "rows": rows})
            tables.append(await _first_event(context, simulator, bridge, raw))
    return {"title": "Previews and the first event", "text": TEXT, "tables": tables, "bars": bars, "raw": raw}


def _watching(context, server, viewers, *options):
    async def side():
        cpu, began = server.cpu_seconds(), time.monotonic()
        result = await context.load(
            "watch", "--url", server.url, "--viewers", viewers, "--rate", RATE, "--frames", context.pick(300, 60), "--size", SIZE, *options)
        return {
            "p50": result["latency"]["p50"], "p99": result["latency"]["p99"], "delivered": result["delivered_share"],
            "cpu_percent": (server.cpu_seconds() - cpu) / (time.monotonic() - began) * 100,
        }
    return side


async def _first_event(context, simulator, bridge, raw):
    """From the submission to the first event of the job, of jobs that take a second."""
    colours = iter(range(1, 1 << 24))
    with ComfyAPIProxy(simulator.url) as proxy:
        async with session() as http:
            await proxy.ready(http)

            async def first_of(answer):
                async for line in answer.content:
                    if line.startswith(b"event: "):
                        return
                raise RuntimeError("an event stream ended without an event")

            async def by_run():
                began = time.perf_counter()
                async with http.post(f"{bridge.url}/run", json=graphs.picture(next(colours)), headers={"Accept": "text/event-stream"}) as answer:
                    await first_of(answer)
                    took = time.perf_counter() - began
                    await answer.read()
                return took

            def by_two(server):
                async def one():
                    began = time.perf_counter()
                    async with http.post(f"{server.url}/api/v2/jobs", json={"workflow": graphs.picture(next(colours))}) as answer:
                        job = (await answer.json())["id"]
                    async with http.get(f"{server.url}/api/v2/jobs/{job}/events", headers={"Accept": "text/event-stream"}) as answer:
                        if answer.status == 204:  # was over before the stream was asked for
                            return time.perf_counter() - began
                        await first_of(answer)
                        took = time.perf_counter() - began
                        await answer.read()
                    return took
                return one

            def median_of(one):
                async def side():
                    return statistics.median([await one() for _ in range(FIRST)]) * 1000
                return side

            found = await context.in_turn(
                context.pick(5, 2), run=median_of(by_run), bridge=median_of(by_two(bridge)), proxy=median_of(by_two(proxy)))
    raw["first_event_ms"] = found
    return {"caption": "From the submission to the first event (one Python client for all three)", "rows": [
        ["", "ms", "comfy-api-proxy takes so many times that"],
        *([label, figures.cell(found[name]), figures.cell(figures.ratios(found["proxy"], found[name]))] for label, name in (
            ("bridge, `POST /run` as an event stream", "run"), ("bridge, submit, then events", "bridge"), ("comfy-api-proxy, submit, then events", "proxy")))]}
