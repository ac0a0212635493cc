"""Event streams on which nothing happens: what each costs in memory, and what all of them cost in CPU."""
import asyncio
import pathlib
import statistics
import time

import figures
from peers import Process

COUNTS = [1000, 3000, 5000, 9000]
HEARTBEAT = 15
"""Seconds; the default of both."""
RESIDENT, ABOVE_FLOOR, CPU = 20, 6, 1
"""The bars: KB, KB, percent."""

TEXT = f"""
A server is started, N event streams are opened (each has had its head, and of the bridge its first event), and the server's resident memory is compared
with that before. Kernel memory is what the whole system gained meanwhile in slabs and TCP buffers, so it holds both ends of each connection, and anything else
that the machine did. CPU is measured over {2 * HEARTBEAT} s with a heartbeat to every stream each {HEARTBEAT} s. `floor`: a C program on libmicrohttpd with
the same threads and memory per connection.
"""


async def measure(context):
    counts = context.pick(COUNTS, [1000, 5000])
    found = {}
    with context.simulator() as simulator:

        async def of_bridge(count, holds):
            async with context.ready_bridge(simulator) as bridge:
                return await _held(context, bridge, count, holds)

        async def of_floor(count, holds):
            with Process(context.floor) as floor:
                return await _held(context, floor, count, holds, "--dialect", "plain", "--path", "/events")

        for count in counts:
            holds = not context.quick and count == counts[-1]
            rounds = await context.in_turn(
                context.pick(3, 1), bridge=lambda count=count, holds=holds: of_bridge(count, holds), floor=lambda count=count, holds=holds: of_floor(count, holds))
            found[count] = {name: figures.columns(results) for name, results in rounds.items()}
    rows = [["streams", "bridge, before", "with them", "a stream", "floor, a stream", "bridge above floor", "kernel, bridge", "kernel, floor"]]
    for count, by in found.items():
        ours, theirs = by["bridge"], by["floor"]
        rows.append([
            count, figures.cell([kb / 1024 for kb in ours["before_kb"]], "MB"), figures.cell([kb / 1024 for kb in ours["resident_kb"]], "MB"),
            figures.cell(ours["kb_a_stream"], "KB"), figures.cell(theirs["kb_a_stream"], "KB"),
            figures.cell([a - b for a, b in zip(ours["kb_a_stream"], theirs["kb_a_stream"])], "KB"),
            figures.cell(ours["kernel_kb_a_stream"], "KB"), figures.cell(theirs["kernel_kb_a_stream"], "KB")])
    tables = [{"caption": "Memory", "rows": rows}]
    most = found[counts[-1]]
    ours, theirs = most["bridge"], most["floor"]
    bars = [
        figures.at_most(f"resident memory of an idle stream, {counts[-1]} of them", RESIDENT, statistics.median(ours["kb_a_stream"]), "KB"),
        figures.at_most(
            "the same above the floor's", ABOVE_FLOOR, statistics.median(a - b for a, b in zip(ours["kb_a_stream"], theirs["kb_a_stream"])), "KB")]
    if "cpu_percent" in ours:
        tables.append({"caption": f"CPU of {counts[-1]} idle streams, in percent of a core", "rows": [
            ["", "bridge", "floor"], ["with heartbeats", figures.cell(ours["cpu_percent"], "%"), figures.cell(theirs["cpu_percent"], "%")]]})
        bars.append(figures.at_most(f"CPU of {counts[-1]} idle streams", CPU, statistics.median(ours["cpu_percent"]), "%"))
    return {"title": "Idle streams", "text": TEXT, "tables": tables, "bars": bars, "raw": found}


async def _held(context, server, count, holds, *options):
    before, kernel = server.resident_kb(), _kernel_kb()
    async with context.loading("idle", "--url", server.url, "--viewers", count, *options) as load:
        line = await load.line()
        if line != f"open {count}":
            raise RuntimeError(f"the load generator said '{line}'")
        found = {
            "before_kb": before, "resident_kb": server.resident_kb(), "kb_a_stream": (server.resident_kb() - before) / count,
            "kernel_kb_a_stream": (_kernel_kb() - kernel) / count,
        }
        if holds:
            cpu, began = server.cpu_seconds(), time.monotonic()
            await asyncio.sleep(2 * HEARTBEAT)
            found["cpu_percent"] = (server.cpu_seconds() - cpu) / (time.monotonic() - began) * 100
            found["resident_kb_after"] = server.resident_kb()
        result = await load.result()
        if holds and result["heartbeats"] < count:
            raise RuntimeError(f"{count} streams got {result['heartbeats']} heartbeats in {2 * HEARTBEAT} s")
    return found


def _kernel_kb():
    """Slabs of the system, and the pages of TCP's buffers."""
    fields = dict(line.split(":") for line in pathlib.Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
    tcp = next(line.split() for line in pathlib.Path("/proc/net/sockstat").read_text(encoding="ascii").splitlines() if line.startswith("TCP:"))
    return int(fields["Slab"].split()[0]) + int(tcp[tcp.index("mem") + 1]) * 4
