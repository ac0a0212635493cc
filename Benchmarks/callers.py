"""Callers of the Comfy API v2 in Python, for what comfy-bridge-load does not speak: the official SDK, and submitting and then reading events."""
import asyncio
import collections
import concurrent.futures
import dataclasses
import json
import os
import time

import aiohttp
import comfy_sdk

TERMINAL = {"succeeded", "failed", "canceled", "expired"}


@dataclasses.dataclass
class Run:
    seconds: float
    """From the submission to the last event."""
    job: str | None = None
    trouble: str | None = None
    """What went wrong for the caller, if anything."""


class EventReader:
    """Submits, follows the events, and asks for the job when they have ended."""

    def __init__(self, session, url, patience=40):
        self.session, self.url, self.patience = session, url, patience

    async def submit(self, graph):
        """The job's id."""
        async with self.session.post(f"{self.url}/api/v2/jobs", json={"workflow": graph}) as answer:
            if answer.status not in (201, 202):
                raise Refused(f"submit answered {answer.status}")
            return (await answer.json())["id"]

    async def status(self, job):
        async with self.session.get(f"{self.url}/api/v2/jobs/{job}") as answer:
            if answer.content_type != "application/json":
                return f"HTTP {answer.status}"
            return (await answer.json()).get("status", f"HTTP {answer.status}")

    async def follow(self, job):
        """The status that the stream told last, as a client that reads events has it."""
        last = None
        async with self.session.get(f"{self.url}/api/v2/jobs/{job}/events", headers={"Accept": "text/event-stream"}) as answer:
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

    async def run(self, graph):
        began = time.perf_counter()

        def over(trouble, job=None):
            return Run(time.perf_counter() - began, job, trouble)

        try:
            async with asyncio.timeout(self.patience):
                job = await self.submit(graph)
        except TimeoutError:
            return over(f"no answer to the submit within {self.patience} s")
        except aiohttp.ClientError:
            return over("connection of the submit broke")
        except Refused as refusal:
            return over(str(refusal))
        try:
            async with asyncio.timeout(self.patience):
                told = await self.follow(job)
                run = over(None, job)
                status = await self.status(job)
        except TimeoutError:
            return over(f"no end within {self.patience} s", job)
        except aiohttp.ClientError:
            return over("stream broke off", job)
        if status != "succeeded":
            run.trouble = f"said to be {status}"
        elif told != "succeeded":
            run.trouble = f"stream ended with {told}"
        return run


class Refused(Exception):
    pass


class SDK:
    """`run()` of the official SDK, by several callers with a client each."""

    def __init__(self, url, callers=1):
        os.environ["COMFY_BASE_URL"] = url  # read when a client is made
        self.clients = [comfy_sdk.Comfy() for _ in range(callers)]
        self.threads = concurrent.futures.ThreadPoolExecutor(callers)
        self.troubles = collections.Counter()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.threads.shutdown()
        for client in self.clients:
            client.close()

    async def run(self, graph, caller=0):
        """Seconds; the picture has been looked at after that. None where the SDK said that the job failed, which no job here does."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, self._run, graph, self.clients[caller])

    def _run(self, graph, client):
        workflow = client.workflows.from_json(graph)
        began = time.perf_counter()
        try:
            job = client.run(workflow)
        except comfy_sdk.ComfyError as error:
            self.troubles[type(error).__name__] += 1
            return None
        took = time.perf_counter() - began
        picture = job.outputs[0].to_bytes()
        if not (picture.startswith(b"\x89PNG") and picture.endswith(b"IEND\xaeB`\x82")):
            raise RuntimeError(f"the output of a job is no picture, but {picture[:100]}")
        return took
