"""Files of 1 GB through the bridge, beside the direct way to ComfyUI; and the bridge's resident memory, which must stay below 80 MB.

    python3 -m venv .venv && .venv/bin/pip install -r Benchmarks/requirements.txt
    swift build -c release --product comfy-bridge
    .venv/bin/python Benchmarks/large_files.py [path of comfy-bridge] [megabytes of the file]

Both sides of a comparison run in turn against the same simulator, the other one first every second time, each with nothing left to be written
to the disk. Every file that went anywhere is compared, by its BLAKE3, with what was sent; each upload has contents of its own, so that none is
recognised. Needs about 6 times the file's size on the disk of the temporary folder.
Prints a table and one JSON object; the exit status is 1 if the bridge held too much.
"""
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid

import comfy_sdk
from blake3 import blake3

from peers import Process, setting

SIZE = (int(sys.argv[2]) if len(sys.argv) > 2 else 1024) << 20
TURNS = 3
LIMIT_MB = 80
SAMPLE_EVERY = 0.01
"""Seconds between two looks at the resident memory."""


class Figures:
    """What was measured, by name: MB/s (of what is no transfer: seconds), and the bridge's memory meanwhile."""

    def __init__(self, bridge):
        self.bridge = bridge
        self.seconds = {}
        self.peaks = {}
        self.samples = {}

    def measure(self, name, action):
        """`action` returns a result and the seconds that it took."""
        samples = []
        os.sync()
        self.bridge.forget_peak()
        with self._sampling(samples):
            result, seconds = action()
        self.seconds.setdefault(name, []).append(seconds)
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

    def speeds(self, name):
        return [SIZE / 1e6 / seconds for seconds in self.seconds[name]]


class LargeFile:
    """A picture with a long tail of noise, which readers do not look at, so that a job can read it. `renew` makes it another file."""

    def __init__(self, path, picture):
        self.path = path
        self.tail = len(picture)
        with open(path, "wb") as file:
            file.write(picture)
            for _ in range(SIZE >> 20):
                file.write(os.urandom(1 << 20))
            file.truncate(SIZE)

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


def output(name):
    """A job of the simulator that puts out a file of that size."""
    files = {"images": [{"filename": name, "subfolder": "", "type": "output"}]}
    return {"1": {"class_type": "SimOutput", "inputs": {"output": json.dumps(files), "bytes": SIZE}}}


def picture():
    return {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "large"}},
    }


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
        job = self.figures.measure("job that puts a file out", lambda: run(self.client, output(name)))
        assert job.outputs[0].size_bytes == SIZE
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
        assert (self.asset["size_bytes"], self.asset["created_new"], self.asset["hash"]) == (SIZE, True, self.file.hash), answer

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


def table(figures):
    yield "| 1 file of %d MB | direct, MB/s | bridge, MB/s | ratio | bridge's resident memory: peak (sampled median), MB |" % (SIZE >> 20)
    yield "| --- | ---: | ---: | ---: | ---: |"

    def cell(values):
        return f"{statistics.median(values):.0f} ({min(values):.0f}…{max(values):.0f})"

    def memory(name):
        return f"{max(figures.peaks[name]):.0f} ({statistics.median(figures.samples[name]):.0f})"

    for label, direct, bridge in (
        ("upload, `curl -F`", "upload, direct", "upload, curl"), ("upload, SDK", "upload, direct", "upload, SDK"),
        ("download of an upload", "download of an upload, direct", "download of an upload, bridge"),
        ("download of an output", "download of an output, direct", "download of an output, bridge"),
    ):
        ours, theirs = figures.speeds(bridge), figures.speeds(direct)
        ratio = statistics.median(ours) / statistics.median(theirs)
        yield f"| {label} | {cell(theirs)} | {cell(ours)} | {ratio:.2f} | {memory(bridge)} |"
    yield f"| job that reads an upload (brought to ComfyUI) | | {cell(figures.speeds('job that reads an upload'))} | | {memory('job that reads an upload')} |"


def main():
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        limit = str((SIZE >> 20) + 1)  # the form around the file
        simulator = stack.enter_context(
            Process("simulate", "--port", "0", "--max-upload-size", limit, "--directory", f"{folder}/comfyui", "--log-level", "error"))
        bridge = stack.enter_context(
            Process("serve", "--port", "0", "--comfyui", simulator.url, "--max-upload-size", limit, "--data-dir", f"{folder}/bridge", "--log-level", "error"))
        os.environ["COMFY_BASE_URL"] = bridge.url
        client = stack.enter_context(comfy_sdk.Comfy())
        first, _ = run(client, picture())
        file = LargeFile(f"{folder}/large.png", first.outputs[0].to_bytes())
        figures, idle = Figures(bridge), bridge.resident_kb() / 1024
        for number in range(TURNS):
            Turn(figures, client, file, simulator, bridge, pathlib.Path(folder)).run(order=-1 if number % 2 else 1)
    print("\n".join(table(figures)))
    peak = max(max(values) for values in figures.peaks.values())
    print(json.dumps({
        "bytes": SIZE, "seconds": figures.seconds, "setting": setting("comfy-sdk"),
        "resident_MB": {
            "idle": idle, "peak": peak, "peaks": figures.peaks,
            "sampled_maximum": {name: max(samples, default=None) for name, samples in figures.samples.items()},
        },
    }))
    if peak >= LIMIT_MB:
        sys.exit(f"the bridge held {peak:.0f} MB")


main()
