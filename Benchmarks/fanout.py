"""One preview to many viewers: when the first and when the last has it, and what that costs the server."""
import statistics

import figures
from peers import Nchan, Process

SIZE = 51_200
AUDIENCES = {1: (20, 10), 100: (20, 10), 1000: (10, 4), 5000: (4, 1), 9000: (3, 0.4)}
"""Viewers, with the previews of a round and how many of them a second: each has to be out before the next."""
COMPARED = 5000
"""What the bars are set for."""
TIMES_FLOOR, TIMES_NCHAN, FIRST = 1.5, 1, 10
"""The bars; the last in ms."""

TEXT = f"""
One preview of {SIZE // 1024} KB (as base64 in an event) to all viewers, measured from the stamp that it carries to the end of its parsing by the first and by the last
viewer; all bytes of every viewer were checked. `floor`: a C program on libmicrohttpd with the same threads and memory per connection. `nchan`: nginx's
publish-subscribe module, with a worker per core. Both get their events by POST and hold nothing else, while the bridge's come from ComfyUI's socket. CPU is that of
the server for the whole round by the number of previews, so it includes the opening of the streams. The viewers are one process on the same cores.
"""


async def measure(context):
    found = {}
    with context.simulator() as simulator, Process(context.floor) as floor, Nchan(context.new_folder("nchan")) as nchan:
        async with context.ready_bridge(simulator) as bridge:
            for viewers, (frames, rate) in AUDIENCES.items():
                if viewers not in context.pick(list(AUDIENCES), [1, 1000, COMPARED]):
                    continue

                def side(server, *options, viewers=viewers, frames=context.pick(frames, min(frames, 3)), rate=rate):
                    return lambda: _round(context, server, viewers, frames, rate, *options)

                def plain(server):
                    return side(server, "--dialect", "plain", "--path", "/events", "--publish", f"{server.url}/publish")

                rounds = await context.in_turn(context.pick(3, 1), bridge=side(bridge), floor=plain(floor), nchan=plain(nchan))
                found[viewers] = {name: figures.columns(results) for name, results in rounds.items()}
    last, cost = [["viewers", "bridge: first", "last", "floor: first", "last", "nchan: first", "last", "last: bridge / floor", "bridge / nchan"]], [
        ["viewers", "bridge", "floor", "nchan", "bridge / floor", "bridge / nchan"]]
    for viewers, by in found.items():
        times = [figures.cell(by[name][which], "ms") for name in ("bridge", "floor", "nchan") for which in ("first_ms", "last_ms")]
        last.append([viewers, *times, *(figures.cell(figures.ratios(by["bridge"]["last_ms"], by[name]["last_ms"])) for name in ("floor", "nchan"))])
        cost.append([
            viewers, *(figures.cell(by[name]["cpu_ms"], "ms") for name in by),
            *(figures.cell(figures.ratios(by["bridge"]["cpu_ms"], by[name]["cpu_ms"])) for name in ("floor", "nchan"))])
    compared = found[COMPARED]
    ours = compared["bridge"]

    def times(name):
        return figures.median_ratio(ours["last_ms"], compared[name]["last_ms"])

    return {
        "title": "Fan-out", "text": TEXT,
        "tables": [{"caption": "Time until the first and the last viewer have it", "rows": last}, {"caption": "CPU of the server for a preview", "rows": cost}],
        "bars": [
            figures.at_most(f"fan-out to {COMPARED} viewers, beside the C floor", TIMES_FLOOR, times("floor"), "×"),
            figures.at_most(f"fan-out to {COMPARED} viewers, beside nchan", TIMES_NCHAN, times("nchan"), "×"),
            figures.at_most(f"fan-out to {COMPARED} viewers, the first has it", FIRST, statistics.median(ours["first_ms"]), "ms"),
        ],
        "plots": [{
            "name": "fanout", "title": "One preview of 50 KB: the last viewer has it", "x": "viewers", "y": "ms", "log": "xy",
            "series": {
                name: {
                    "x": list(found), "y": [statistics.median(by[name]["last_ms"]) for by in found.values()],
                    "low": [min(by[name]["last_ms"]) for by in found.values()], "high": [max(by[name]["last_ms"]) for by in found.values()],
                } for name in ("bridge", "floor", "nchan")
            },
        }],
        "raw": found,
    }


async def _round(context, server, viewers, frames, rate, *options):
    cpu = server.cpu_seconds()
    result = await context.load(
        "watch", "--url", server.url, "--viewers", viewers, "--rate", rate, "--frames", frames, "--size", SIZE, *options)
    if result["delivered_share"] < 1:
        raise RuntimeError(f"{viewers} viewers of {server.url} got {result['delivered_share'] * 100:.2f} % of the previews")
    return {
        "first_ms": result["first_viewer"]["p50"], "last_ms": result["last_viewer"]["p50"], "worst_ms": result["last_viewer"]["max"],
        "cpu_ms": (server.cpu_seconds() - cpu) * 1000 / frames,
    }
