"""The same faults for comfy-bridge and for comfy-api-proxy: very short jobs while sockets break and answers are wrong.

Each has a simulated ComfyUI of its own with the same faults, which are of the kind that no job is lost by: whatever was accepted comes to its
end there, and the simulator's own count is the truth. A caller submits, follows the events, and asks for the job when they have ended.
"""
import asyncio
import collections
import contextlib
import statistics
import time

import aiohttp

import figures
import graphs
from callers import TERMINAL, EventReader
from context import note, session
from peers import ComfyAPIProxy

JOBS = 1000
CALLERS = 8
LATENCY_JOBS = 20
STABLE = 5.5
"""Seconds between two cuts: what breaks sooner is not connected to again at once."""

FAULTS = {
    "none": [],
    "socket cut before the last message": ["cut=end@0.3"],
    "socket cut in the run": ["cut=start@0.2", "cut=node@0.1"],
    "socket open, not registered": ["mute=start@0.1"],
    "last message dropped": ["drop-final=end@0.2", "drop-final=outcome@0.2"],
    "last message twice": ["duplicate-final=end@0.3", "duplicate-final=outcome@0.3"],
    "last message late": ["delay-final=300@0.1"],
    "500 though queued": ["error-after=500~POST /prompt@0.1"],
    "no answer though queued": ["no-answer~POST /prompt@0.1"],
    "500 from /queue and /history": ["error=500~/queue@0.2", "error=500~/history@0.2"],
}


class Side:
    def __init__(self, name, server, simulator, session):
        self.name, self.simulator, self.session = name, simulator, session
        self.reader = EventReader(session, server.url)

    async def arm(self, faults):
        async with self.session.delete(f"{self.simulator.url}/simulator/faults") as answer:
            assert answer.status == 200, await answer.text()
        if faults:
            async with self.session.post(f"{self.simulator.url}/simulator/faults", json=[{"fault": fault} for fault in faults]) as answer:
                assert answer.status == 200, await answer.text()

    async def finished(self):
        async with self.session.get(f"{self.simulator.url}/simulator/statistics") as answer:
            return {prompt: counts["finished"] for prompt, counts in (await answer.json())["prompts"].items()}

    async def block(self, faults, jobs, offset):
        await self.arm(faults)
        numbers = iter(range(offset, offset + jobs))
        results = []

        async def caller():
            for number in numbers:
                results.append(await self.reader.run(graphs.picture(number)))

        began = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        seconds = time.perf_counter() - began
        await self.arm([])
        finished = await self.finished()
        troubles = collections.Counter()
        for run in results:
            if run.trouble is None:
                continue
            done = run.job is None or finished.get(run.job, 0) > 0
            troubles[run.trouble + ("" if done else ", and not finished in ComfyUI")] += 1
        twice = sum(1 for run in results if finished.get(run.job, 0) > 1)
        if twice:
            troubles["run twice"] += twice
        return dict(troubles), seconds

    async def latency(self, offset, jobs):
        """Milliseconds from ComfyUI's last word on a job, by its own clock, to the caller's knowledge, with the socket cut just before `executing null`."""
        await self.arm(["cut=end"])
        took = []
        for number in range(offset, offset + jobs):
            await asyncio.sleep(STABLE)
            job = await self.reader.submit(graphs.picture(number))
            told = None
            with contextlib.suppress(aiohttp.ClientError):
                told = await self.reader.follow(job)
            while told not in TERMINAL:  # the stream ended without it
                await asyncio.sleep(0.05)
                told = await self.reader.status(job)
            known = time.time()
            async with self.session.get(f"{self.simulator.url}/history/{job}") as answer:
                messages = (await answer.json())[job]["status"]["messages"]
            took.append(known * 1000 - next(data["timestamp"] for name, data in messages if name == "execution_success"))
        await self.arm([])
        return took


async def measure(context):
    jobs = context.pick(JOBS, JOBS // 10)
    rows = [["fault", "comfy-bridge", "comfy-api-proxy"]]
    raw = {"jobs_of_each": jobs, "troubles": {}, "seconds": {}, "cut_before_the_last_message_ms": {}}
    with context.simulator() as first, context.simulator() as second, ComfyAPIProxy(second.url) as proxy:
        async with context.ready_bridge(first) as bridge, session() as http:
            await proxy.ready(http)
            sides = [Side("comfy-bridge", bridge, first, http), Side("comfy-api-proxy", proxy, second, http)]
            for index, (name, faults) in enumerate(FAULTS.items()):
                cells = []
                for side in sides:
                    troubles, seconds = await side.block(faults, jobs // len(FAULTS), 1 + index * jobs)
                    raw["troubles"].setdefault(side.name, {})[name] = troubles
                    raw["seconds"].setdefault(side.name, {})[name] = seconds
                    cells.append((", ".join(f"{count} {trouble}" for trouble, count in troubles.items()) or "all right") + f" ({seconds:.1f} s)")
                rows.append([f"{name} ({jobs // len(FAULTS)} jobs)", *cells])
                note(" | ".join(rows[-1]))
            found = await asyncio.gather(*(side.latency(1 + len(FAULTS) * jobs, context.pick(LATENCY_JOBS, 3)) for side in sides))
    ends = [["socket cut before the last message: from ComfyUI's end to the caller's answer", "p50", "max"]]
    for side, took in zip(sides, found):
        raw["cut_before_the_last_message_ms"][side.name] = took
        ends.append([side.name, f"{figures.number(statistics.median(took))} ms", f"{figures.number(max(took))} ms"])
    wrong = sum(count for troubles in raw["troubles"]["comfy-bridge"].values() for count in troubles.values())
    return {
        "title": "Faults", "tables": [{"rows": rows}, {"rows": ends}], "raw": raw,
        "bars": [figures.at_most(f"jobs of {jobs} that went wrong for the caller, with faults that lose none", 0, wrong)],
    }
