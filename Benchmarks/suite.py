"""Runs the workloads one after the other and writes the report. `scripts/bench` builds and installs what this needs, and calls it.

A workload is a module with

    async def measure(context) -> dict

(`context.py`), which returns

    title    heading in the report
    text     optional: what was done, in Markdown
    tables   [{"caption": optional, "rows": [[…], …]}], the first row is the head; cells are texts (`figures.cell` makes them)
    bars     what the project set itself, from `figures.at_most` and `figures.at_least`
    plots    optional: [{"name": of the file, "title", "x": label, "y": label, "log": "", "x", "y" or "xy" (axes),
                         "series": {label: {"x": […], "y": […], optional "low" and "high": […]}}}]; texts as "x" make a chart of columns
    raw      everything that was measured; numbers by name, in rounds

It raises when anything received was wrong: such a run has no figures.
"""
import argparse
import asyncio
import datetime
import importlib
import json
import pathlib
import signal
import sys
import tempfile
import time

import figures
import machine
import report
from context import Context, note

WORKLOADS = ["latency", "previews", "throughput", "fanout", "idle", "large_files", "growth", "cold_start"]
ON_DEMAND = ["memory", "faults"]
"""Run only when named: it takes long, and says what happens rather than how fast."""


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measures comfy-bridge beside its peers and writes a report.")
    parser.add_argument("--quick", action="store_true", help="within 3 minutes; the report goes to out/bench, not to Benchmarks")
    parser.add_argument("--comfy-bridge", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--comfy-bridge-load", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--floor", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=f"{', '.join(WORKLOADS)} (all of these if none is named), {', '.join(ON_DEMAND)}")
    options = parser.parse_args()
    for name in options.workloads:
        if name not in WORKLOADS + ON_DEMAND:
            parser.error(f"there is no workload '{name}' (there are {', '.join(WORKLOADS + ON_DEMAND)})")
    return options


async def main():
    options = arguments()
    # Stopped from outside, everything that was started ends too.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    root = pathlib.Path(__file__).parent.parent
    folder = root / "out/bench" if options.quick else root / "Benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    results = report.Results(folder)
    began = time.monotonic()
    for name in options.workloads or WORKLOADS:
        print(f"== {name}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="comfy-bridge-bench-") as temporary:
            context = Context(options.quick, options.comfy_bridge, options.comfy_bridge_load, options.floor, pathlib.Path(temporary))
            started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
            found = await importlib.import_module(name).measure(context)
            took = time.monotonic() - clock
        note(f"{took:.0f} s")
        command = "scripts/bench" + (" --quick" if options.quick else "") + f" {name}"
        results.add(name, {**figures.rounded(found), "measured": {"at": f"{started:%Y-%m-%d %H:%M} UTC", "seconds": round(took), "command": command, **machine.setting(context)}})
    results.write(WORKLOADS + ON_DEMAND)
    print(results.summary(WORKLOADS + ON_DEMAND))
    note(f"{time.monotonic() - began:.0f} s in all; the report is {folder.relative_to(root) / 'REPORT.md'}")


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(130)
