"""The same faults for comfy-bridge and for comfy-api-proxy: very short jobs while sockets break and answers are wrong.

    python3 -m venv .venv && .venv/bin/pip install -r Benchmarks/requirements.txt
    swift build -c release --product comfy-bridge
    .venv/bin/python Benchmarks/faults.py [path of comfy-bridge] [jobs]

Each has a simulated ComfyUI of its own with the same faults, which are of the kind that no job is lost by: whatever was accepted comes to its
end there, and the simulator's own count is the truth. A caller submits, follows the events, and asks for the job when they have ended.
Prints two tables and one JSON object.
"""
import asyncio
import collections
import contextlib
import json
import statistics
import sys
import time

import aiohttp

from peers import ComfyAPIProxy, Process, ready, setting

JOBS = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
CALLERS = 8
LATENCY_JOBS = 20
STABLE = 5.5
"""Seconds between two cuts: what breaks sooner is not connected to again at once."""
PATIENCE = 40
"""Seconds after which a caller gives up."""

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
TERMINAL = {"succeeded", "failed", "canceled", "expired"}


def graph(number):
    return {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 32, "height": 32, "batch_size": 1, "color": number}},
        "2": {"class_type": "SaveImage", "inputs": {"filename_prefix": "f", "images": ["1", 0]}},
    }


class Side:
    def __init__(self, name, server, simulator, session):
        self.name, self.server, self.simulator, self.session = name, server, simulator, session

    async def arm(self, faults):
        async with self.session.delete(f"{self.simulator.url}/simulator/faults") as answer:
            assert answer.status == 200, await answer.text()
        if faults:
            async with self.session.post(f"{self.simulator.url}/simulator/faults", json=[{"fault": fault} for fault in faults]) as answer:
                assert answer.status == 200, await answer.text()

    async def finished(self):
        async with self.session.get(f"{self.simulator.url}/simulator/statistics") as answer:
            return {prompt: counts["finished"] for prompt, counts in (await answer.json())["prompts"].items()}

    async def status(self, job):
        async with self.session.get(f"{self.server.url}/api/v2/jobs/{job}") as answer:
            return (await answer.json()).get("status", f"HTTP {answer.status}") if answer.content_type == "application/json" else f"HTTP {answer.status}"

    async def follow(self, job):
        """The status that the stream told last, as a client that reads events has it."""
        last = None
        async with self.session.get(f"{self.server.url}/api/v2/jobs/{job}/events", headers={"Accept": "text/event-stream"}) as answer:
            if answer.status != 200:
                return f"HTTP {answer.status}"
            event = None
            async for line in answer.content:
                line = line.decode().rstrip("\n")
                if line.startswith("event: "):
                    event = line[7:]
                elif line.startswith("data: ") and event == "status":
                    last = json.loads(line[6:])["status"]
        return last

    async def run(self, number):
        """What went wrong for the caller, if anything; and the job's id."""
        try:
            async with asyncio.timeout(PATIENCE):
                async with self.session.post(f"{self.server.url}/api/v2/jobs", json={"workflow": graph(number)}) as answer:
                    if answer.status not in (201, 202):
                        return f"submit answered {answer.status}", None
                    job = (await answer.json())["id"]
        except TimeoutError:
            return f"no answer to the submit within {PATIENCE} s", None
        except aiohttp.ClientError:
            return "connection of the submit broke", None
        try:
            async with asyncio.timeout(PATIENCE):
                told = await self.follow(job)
                status = await self.status(job)
        except TimeoutError:
            return f"no end within {PATIENCE} s", job
        except aiohttp.ClientError:
            return "stream broke off", job
        if status != "succeeded":
            return f"said to be {status}", job
        if told not in TERMINAL:
            return f"stream ended with {told}", job
        return None if told == "succeeded" else f"stream ended with {told}", job

    async def block(self, faults, jobs, offset):
        await self.arm(faults)
        numbers = iter(range(offset, offset + jobs))
        results = []

        async def caller():
            for number in numbers:
                results.append(await self.run(number))

        began = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        seconds = time.perf_counter() - began
        await self.arm([])
        finished = await self.finished()
        troubles = collections.Counter()
        for trouble, job in results:
            if trouble is None:
                continue
            done = job is None or finished.get(job, 0) > 0
            troubles[trouble + ("" if done else ", and not finished in ComfyUI")] += 1
        twice = sum(1 for _, job in results if finished.get(job, 0) > 1)
        if twice:
            troubles["run twice"] += twice
        return dict(troubles), seconds

    async def latency(self, offset):
        """Milliseconds from ComfyUI's last word on a job, by its own clock, to the caller's knowledge, with the socket cut just before `executing null`."""
        await self.arm(["cut=end"])
        took = []
        for number in range(offset, offset + LATENCY_JOBS):
            await asyncio.sleep(STABLE)
            async with self.session.post(f"{self.server.url}/api/v2/jobs", json={"workflow": graph(number)}) as answer:
                assert answer.status in (201, 202), await answer.text()
                job = (await answer.json())["id"]
            told = None
            with contextlib.suppress(aiohttp.ClientError):
                told = await self.follow(job)
            while told not in TERMINAL:  # the stream ended without it
                await asyncio.sleep(0.05)
                told = await self.status(job)
            known = time.time()
            async with self.session.get(f"{self.simulator.url}/history/{job}") as answer:
                messages = (await answer.json())[job]["status"]["messages"]
            took.append(known * 1000 - next(data["timestamp"] for name, data in messages if name == "execution_success"))
        await self.arm([])
        return took


async def main():
    with contextlib.ExitStack() as stack:
        def simulator():
            return stack.enter_context(Process("simulate", "--port", "0", "--step-delay", "0", "--log-level", "error"))

        first, second = simulator(), simulator()
        bridge = stack.enter_context(Process("serve", "--port", "0", "--comfyui", first.url, "--log-level", "critical"))
        proxy = stack.enter_context(ComfyAPIProxy(second.url))
        timeout = aiohttp.ClientTimeout(total=PATIENCE + 20)
        async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:
            await ready(session, bridge.url)
            await proxy.ready(session)
            sides = [Side("comfy-bridge", bridge, first, session), Side("comfy-api-proxy", proxy, second, session)]
            result = {"jobs_of_each": JOBS, "troubles": {}, "seconds": {}, "cut_before_the_last_message_ms": {}, "setting": setting("comfy-api-proxy", "aiohttp")}
            print("| fault | " + " | ".join(side.name for side in sides) + " |\n|---|---|---|")
            for index, (name, faults) in enumerate(FAULTS.items()):
                cells = []
                for side in sides:
                    troubles, seconds = await side.block(faults, JOBS // len(FAULTS), 1 + index * JOBS)
                    result["troubles"].setdefault(side.name, {})[name] = troubles
                    result["seconds"].setdefault(side.name, {})[name] = round(seconds, 2)
                    cells.append((", ".join(f"{count} {trouble}" for trouble, count in troubles.items()) or "all right") + f" ({seconds:.1f} s)")
                print(f"| {name} ({JOBS // len(FAULTS)} jobs) | " + " | ".join(cells) + " |", flush=True)
            print("\n| socket cut before the last message: from ComfyUI's end to the caller's answer | p50 | max |\n|---|---:|---:|")
            figures = await asyncio.gather(*(side.latency(1 + len(FAULTS) * JOBS) for side in sides))
            for side, took in zip(sides, figures):
                result["cut_before_the_last_message_ms"][side.name] = [round(value, 1) for value in took]
                print(f"| {side.name} | {statistics.median(took):.0f} ms | {max(took):.0f} ms |", flush=True)
    print(json.dumps(result))


asyncio.run(main())
