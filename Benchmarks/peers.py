"""What the benchmarks run: the binary (first argument, else COMFY_BRIDGE_BINARY, else the release build), its peers, and the direct client."""
import asyncio
import importlib.metadata
import json
import os
import pathlib
import socket
import subprocess
import sys
import time
import uuid

import aiohttp

BINARY = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("COMFY_BRIDGE_BINARY", ".build/release/comfy-bridge")


def setting(*packages):
    """What figures depend on."""
    return {"machine": f"{os.cpu_count()} cores, {os.uname().release}", "binary": BINARY, **{name: importlib.metadata.version(name) for name in packages}}


class Started:
    """Stopped by its id where the `with` ends."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:  # comfy-api-proxy, when streams of it hang
            self.process.kill()
            self.process.wait(30)


class Process(Started):
    """The binary with its address, from the line it prints."""

    def __init__(self, *arguments):
        self.started = time.perf_counter()
        environment = {"COMFY_BRIDGE_DATA_DIR": "none", **os.environ}
        self.process = subprocess.Popen([BINARY, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.url = self.process.stdout.readline().split()[-1]

    def resident_kb(self):
        return self._memory_kb("VmRSS")

    def peak_kb(self):
        """Since the start, or since `forget_peak`."""
        return self._memory_kb("VmHWM")

    def forget_peak(self):
        with open(f"/proc/{self.process.pid}/clear_refs", "w") as file:
            file.write("5")  # proc(5): resets the peak to what is resident now

    def _memory_kb(self, name):
        with open(f"/proc/{self.process.pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith(name))

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def ready(session, url):
    while True:
        async with session.get(f"{url}/readyz") as answer:
            if answer.status == 200:
                return


async def direct(session, socket, simulator, client_id, graph):
    """What a caller would write itself: submit, read the socket to the end of the prompt. Returns the first picture's place."""
    prompt_id = str(uuid.uuid4())
    body = {"prompt": graph, "prompt_id": prompt_id, "client_id": client_id, "extra_data": {}}
    async with session.post(f"{simulator}/prompt", json=body) as answer:
        assert answer.status == 200, await answer.text()
    outputs = []
    async for message in socket:
        if message.type != aiohttp.WSMsgType.TEXT:
            continue
        event = json.loads(message.data)
        data = event["data"]
        if data.get("prompt_id") != prompt_id:
            continue
        if event["type"] == "executed":
            outputs.append(data["output"])
        if event["type"] == "executing" and data["node"] is None:
            break
    assert outputs and outputs[0]["images"], outputs
    return outputs[0]["images"][0]


class ComfyAPIProxy(Started):
    """comfy-api-proxy from PyPI, started as its users do."""

    def __init__(self, comfyui):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        command = pathlib.Path(sys.executable).with_name("comfy-api-proxy")
        self.process = subprocess.Popen(
            [command, "run", "--comfyui", comfyui, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    async def ready(self, session):
        while self.process.poll() is None:
            try:
                async with session.get(f"{self.url}/api/v2/health") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(0.05)
        raise RuntimeError(f"comfy-api-proxy ended with status {self.process.returncode}")
