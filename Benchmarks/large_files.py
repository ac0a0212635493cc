"""Files of 1 GB through the bridge, beside the direct way to ComfyUI; and the bridge's resident memory meanwhile.

Both sides of a comparison run in turn against the same simulator, the other one first every second time, each with nothing left to be written
to the disk. Every file that went anywhere is compared, by its BLAKE3, with what was sent; each upload has contents of its own, so that none is
recognised. Needs about 6 times the file's size on the disk of the temporary folder.
"""
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import threading
import time
import uuid

import comfy_sdk
from blake3 import blake3

import figures
import graphs
from context import note

LIMIT_MB = 80
SAMPLE_EVERY = 0.01
"""Seconds between two looks at the resident memory."""

TEXT = """
Transfers by curl, timed by its own clock; `SDK`: by the official SDK. An output is fetched from ComfyUI while it is sent on; an upload is hashed and
written to the disk while it comes. The resident memory is the highest during a transfer, as the kernel has it, and the median of looks at it.
"""


class Figures:
    """What was measured, by name: seconds, the bridge's CPU seconds, and its memory meanwhile."""

    def __init__(self, bridge, stopped):
        self.bridge = bridge
        self.stopped = stopped
        self.seconds = {}
        self.cpu = {}
        self.peaks = {}
        self.samples = {}

    def measure(self, name, action):
        """`action` returns a result and the seconds that it took."""
        if self.stopped.is_set():
            raise Stopped
        samples = []
        os.sync()
        self.bridge.forget_peak()
        cpu = self.bridge.cpu_seconds()
        with self._sampling(samples):
            result, seconds = action()
        self.seconds.setdefault(name, []).append(seconds)
        self.cpu.setdefault(name, []).append(self.bridge.cpu_seconds() - cpu)
        self.peaks.setdefault(name, []).append(self.bridge.peak_kb() / 1024)
        self.samples.setdefault(name, []).extend(samples)
        return result

    @contextlib.contextmanager
    def _sampling(self, samples):
        done = threading.Event()

        def sample():
            while not done.wait(SAMPLE_EVERY):
                samples.append(self.bridge.resident_kb() / 1024)

        thread = threading.Thread(target=sample)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


class LargeFile:
    """A picture with a long tail of noise, which readers do not look at, so that a job can read it. `renew` makes it another file."""

    def __init__(self, path, picture, size):
        self.path = path
        self.size = size
        self.tail = len(picture)
        with open(path, "wb") as file:
            file.write(picture)
            for _ in range(size >> 20):
                file.write(os.urandom(1 << 20))
            file.truncate(size)

    def renew(self):
        with open(self.path, "r+b") as file:
            file.seek(self.tail)
            file.write(os.urandom(32))
        self.hash = hash_of(self.path)


def hash_of(path):
    return "blake3:" + blake3(max_threads=blake3.AUTO).update_mmap(path).hexdigest()


def curl(*arguments):
    """Body and time of the transfer, by curl's own clock."""
    command = ["curl", "-sS", "--fail-with-body", "-w", "\n%{time_total}", *map(str, arguments)]
    body, _, seconds = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.rpartition(b"\n")
    return body, float(seconds)


def commit(asset):
    began = time.perf_counter()
    asset.commit()
    return asset, time.perf_counter() - began


def run(client, graph):
    began = time.perf_counter()
    try:
        job = client.run(client.workflows.from_json(graph))
    except comfy_sdk.JobFailed as failure:
        raise RuntimeError(f"{failure}: {failure.error}") from failure  # the SDK's message does not say why
    return job, time.perf_counter() - began


def output(name, size):
    """A job of the simulator that puts out a file of that size."""
    files = {"images": [{"filename": name, "subfolder": "", "type": "output"}]}
    return {"1": {"class_type": "SimOutput", "inputs": {"output": json.dumps(files), "bytes": size}}}


def reading(asset):
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": asset}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "large"}},
    }


class Turn:
    def __init__(self, figures, client, file, simulator, bridge, folder):
        self.figures = figures
        self.client = client
        self.file = file
        self.simulator = simulator
        self.bridge = bridge
        self.copy = folder / "copy"
        self.comfyui_input = folder / "comfyui" / "input"

    def run(self, order):
        """`order`: 1, or -1 for the bridge first."""
        uploads = [self.upload_direct, self.upload_curl, self.upload_sdk]
        for step in uploads[::order]:
            self.file.renew()
            step()
        downloads = [
            ("download of an upload, direct", f"{self.simulator.url}/view?type=input&filename={self.name}", self.direct_hash),
            ("download of an upload, bridge", self.asset["url"], self.asset["hash"]),
        ]
        for download in downloads[::order]:
            self.download(*download)
        (self.comfyui_input / self.name).unlink()
        self.client.assets.delete(self.asset["id"])

        name = f"{uuid.uuid4()}.bin"
        job = self.figures.measure("job that puts a file out", lambda: run(self.client, output(name, self.file.size)))
        assert job.outputs[0].size_bytes == self.file.size
        made = hash_of(self.comfyui_input.with_name("output") / name)
        downloads = [
            ("download of an output, direct", f"{self.simulator.url}/view?filename={name}", made),
            ("download of an output, bridge", job.outputs[0].get_download_url().url, made),
        ]
        for download in downloads[::order]:
            self.download(*download)

    def upload_direct(self):
        self.name, self.direct_hash = f"{uuid.uuid4()}.png", self.file.hash
        form = f"image=@{self.file.path};filename={self.name}"
        self.figures.measure("upload, direct", lambda: curl("-F", form, f"{self.simulator.url}/upload/image"))

    def upload_curl(self):
        answer = self.figures.measure("upload, curl", lambda: curl("-F", f"file=@{self.file.path}", f"{self.bridge.url}/api/v2/assets"))
        self.asset = json.loads(answer)
        assert (self.asset["size_bytes"], self.asset["created_new"], self.asset["hash"]) == (self.file.size, True, self.file.hash), answer

    def upload_sdk(self):
        asset = self.client.assets.from_file(self.file.path)
        assert asset.hash == self.file.hash  # the SDK hashes first; what counts here is the transfer
        self.figures.measure("upload, SDK", lambda: commit(asset))
        assert (asset.created_new, asset.hash) == (True, self.file.hash)
        self.figures.measure("job that reads an upload", lambda: run(self.client, reading(asset)))
        brought = self.comfyui_input / asset.file_path
        assert hash_of(brought) == self.file.hash
        brought.unlink()
        asset.delete()

    def download(self, name, url, expected):
        self.figures.measure(name, lambda: curl("-o", self.copy, url))
        assert hash_of(self.copy) == expected, name


COMPARED = [
    ("upload, `curl -F`", "upload, direct", "upload, curl"), ("upload, SDK", "upload, direct", "upload, SDK"),
    ("download of an upload", "download of an upload, direct", "download of an upload, bridge"),
    ("download of an output", "download of an output, direct", "download of an output, bridge"),
]


def table(found, size):
    rows = [["", "direct, MB/s", "bridge, MB/s", "ratio", "CPU of the bridge, s", "its resident memory: highest (median), MB"]]

    def speed(name):
        return [size / 1e6 / seconds for seconds in found.seconds[name]]

    def memory(name):
        return f"{max(found.peaks[name]):.0f} ({statistics.median(found.samples[name]):.0f})"

    for label, direct, bridge in COMPARED:
        rows.append([
            label, figures.cell(speed(direct)), figures.cell(speed(bridge)), figures.cell(figures.ratios(speed(bridge), speed(direct))),
            figures.cell(found.cpu[bridge]), memory(bridge)])
    name = "job that reads an upload"
    rows.append([f"{name} (brought to ComfyUI)", "", figures.cell(speed(name)), "", figures.cell(found.cpu[name]), memory(name)])
    return rows


async def measure(context):
    stopped = threading.Event()
    measuring = asyncio.create_task(asyncio.to_thread(_measure, context, stopped))  # which waits for curl and the SDK
    try:
        return await asyncio.shield(measuring)
    except asyncio.CancelledError:
        stopped.set()
        with contextlib.suppress(Stopped):
            await measuring
        raise


class Stopped(Exception):
    pass


def _measure(context, stopped):
    size = context.pick(1024, 64) << 20
    limit = str((size >> 20) + 1)  # the form around the file
    folder = context.folder
    with contextlib.ExitStack() as stack:
        simulator = stack.enter_context(context.simulator("--max-upload-size", limit, directory=folder / "comfyui"))
        bridge = stack.enter_context(context.bridge(simulator, "--max-upload-size", limit))
        os.environ["COMFY_BASE_URL"] = bridge.url
        client = stack.enter_context(comfy_sdk.Comfy())
        first, _ = run(client, graphs.picture(1))
        file = LargeFile(folder / "large.png", first.outputs[0].to_bytes(), size)
        found, idle = Figures(bridge, stopped), bridge.resident_kb() / 1024
        turns = context.pick(3, 2)
        for number in range(turns):
            Turn(found, client, file, simulator, bridge, folder).run(order=-1 if number % 2 else 1)
            note(f"{number + 1}/{turns}")
    peak = max(max(values) for values in found.peaks.values())
    bars = [
        figures.at_least(
            f"{label} of {size >> 20} MB beside the direct way", 0.8,
            statistics.median(theirs / ours for ours, theirs in zip(found.seconds[bridge], found.seconds[direct])), "×")
        for label, direct, bridge in COMPARED if label == "download of an output"
    ]
    return {
        "title": "Large files", "text": TEXT + f"\nOne file of {size >> 20} MB. Before the first of them the bridge had {idle:.0f} MB resident.",
        "tables": [{"rows": table(found, size)}],
        "bars": bars + [figures.at_most("resident memory of the bridge with large files", LIMIT_MB, peak, "MB")],
        "raw": {"bytes": size, "seconds": found.seconds, "cpu_seconds": found.cpu, "idle_mb": idle, "peaks_mb": found.peaks},
    }
