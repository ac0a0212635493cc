"""Resident memory over many jobs with previews and an event stream each."""
import asyncio
import itertools

import figures
import graphs
from callers import EventReader
from context import note, session
from peers import ComfyAPIProxy

CALLERS = 4
STEPS = 20
"""Samples over the run."""
GROWTH = 1.0
"""The bar, in KB a job, over the second half of the run: the first fills what has a limit (previews, jobs in memory)."""

TEXT = """
Each job has 4 previews; its caller submits it, reads its events, and asks for the job when they have ended. Growth is that of
the second half of the run, a job: in the first the previews that are kept of ended jobs (64 MB at most) and the other bounded stores fill,
the jobs that are kept on the disk (10 000) come to be so many, and the heaps of all threads find their size. comfy-api-proxy, which takes longer for a job, is given a thirtieth of them.
"""


async def measure(context):
    jobs = context.pick({"comfy-bridge": 30_000, "comfy-api-proxy": 1000}, {"comfy-bridge": 400, "comfy-api-proxy": 100})
    colours = itertools.count(1)
    samples = {}
    with context.simulator("--preview-size", 256) as simulator, ComfyAPIProxy(simulator.url) as proxy:
        async with context.ready_bridge(simulator) as bridge, session() as http:
            await proxy.ready(http)
            sides = {"comfy-bridge": bridge, "comfy-api-proxy": proxy}
            troubles = {name: 0 for name in sides}
            for name, server in sides.items():
                samples[name] = [(0, server.resident_kb() / 1024)]
            # In turn, a part of the run after the other, so that both meet the same ComfyUI.
            for part in range(STEPS):
                for name, server in sides.items():
                    runs = await _many(EventReader(http, server.url), jobs[name] // STEPS, colours)
                    troubles[name] += sum(run.trouble is not None for run in runs)
                    samples[name].append(((part + 1) * jobs[name] // STEPS, server.resident_kb() / 1024))
                note(f"{part + 1}/{STEPS}")
    if troubles["comfy-bridge"]:
        raise RuntimeError(f"{troubles['comfy-bridge']} jobs of the bridge went wrong")
    rows = [["", "jobs", "at the start", "after half of the jobs", "after all", "growth in the second half", "jobs that went wrong"]]
    growth = {}
    for name, found in samples.items():
        middle = found[STEPS // 2]
        growth[name] = (found[-1][1] - middle[1]) * 1024 / (found[-1][0] - middle[0])
        rows.append([
            name, jobs[name], figures.cell([found[0][1]], "MB"), figures.cell([middle[1]], "MB"), figures.cell([found[-1][1]], "MB"),
            figures.cell([growth[name]], "KB a job"), troubles[name]])
    return {
        "title": "Memory over many jobs", "text": TEXT, "tables": [{"rows": rows}],
        "bars": [figures.at_most(f"growth of resident memory, second half of {jobs['comfy-bridge']} jobs", GROWTH, growth["comfy-bridge"], "KB a job")],
        "plots": [{
            "name": "memory", "title": "Resident memory", "x": "jobs", "y": "MB", "log": "",
            "series": {name: {"x": [jobs for jobs, _ in found], "y": [size for _, size in found]} for name, found in samples.items()},
        }],
        "raw": {"resident_mb": samples, "growth_kb_a_job": growth},
    }


async def _many(reader, jobs, colours):
    numbers = iter(range(jobs))

    async def calling():
        return [await reader.run(graphs.sampler(next(colours))) for _ in numbers]

    return [run for runs in await asyncio.gather(*(calling() for _ in range(CALLERS))) for run in runs]
