"""comfy-bridge-load, which the benchmarks rest on: small runs of every command, and that what is wrong is called wrong."""
import base64
import contextlib
import http.server
import json
import subprocess
import threading
import time

import pytest

import workflows
from http_client import curl
from processes import Process


@pytest.fixture(scope="module")
def load(binary):
    """Runs a command; returns the exit status, the JSON and what was said on stderr."""

    def run(command, *arguments, input=""):
        done = subprocess.run(
            [binary.with_name("comfy-bridge-load"), command, *map(str, arguments)], input=input, capture_output=True, text=True, timeout=60)
        lines = done.stdout.splitlines()
        return done.returncode, json.loads(lines[-1]) if lines else None, done.stderr

    return run


@pytest.fixture(scope="module")
def quick_simulator(binary):
    process = Process(binary, "simulate", "--port", 0, "--step-delay", 0, "--preview-size", 64)
    yield process.url
    process.stop()


@pytest.fixture(scope="module")
def quick_bridge(binary, quick_simulator):
    process = Process(binary, "serve", "--port", 0, "--comfyui", quick_simulator)
    yield process.url
    process.stop()


def check_latency(latency, count):
    assert latency["count"] == count
    assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["p999"] <= latency["max"]


@pytest.mark.parametrize("kind", ["one-step", "picture", "delay:20"])
def test_jobs_through_the_bridge_and_direct(load, quick_bridge, quick_simulator, kind):
    for command, url, more in [("run", quick_bridge, ["--verify"]), ("direct", quick_simulator, [])]:
        status, report, complaints = load(command, "--url", url, "--callers", 3, "--jobs", 12, "--kind", kind, *more)
        assert status == 0, complaints
        assert report["jobs"] == 12 and report["refused"] == {} and report["jobs_per_second"] > 0
        check_latency(report["latency"], 12)
        if kind == "delay:20":  # a result from ComfyUI's cache would come at once
            assert report["latency"]["p50"] >= 20


def test_the_relay_is_a_floor_that_tells_the_truth(binary, load, quick_simulator):
    relay = Process(binary.with_name("comfy-bridge-load"), "relay", "--comfyui", quick_simulator)
    try:
        status, report, complaints = load("run", "--url", relay.url, "--callers", 3, "--jobs", 12, "--kind", "picture")
        assert status == 0, complaints
        assert report["jobs"] == 12 and report["refused"] == {}
        refused = ["curl", "-sS", f"{relay.url}/run", "--data", '{"1": {"class_type": "NoSuchNode", "inputs": {}}}']
        assert subprocess.run(refused, capture_output=True, timeout=60).returncode == 52  # an empty reply
    finally:
        relay.stop(check=False)


def test_latency_counts_from_when_a_job_should_have_started(load, quick_bridge):
    status, report, complaints = load("run", "--url", quick_bridge, "--jobs", 10, "--rate", 1000, "--kind", "delay:50")
    assert status == 0, complaints
    assert report["latency"]["max"] > 9 * 50  # the last of ten that one caller has one after the other


@pytest.mark.parametrize(("encoding", "growth"), [("base64", 4 / 3), ("url", 1)])
def test_viewers(load, quick_bridge, encoding, growth):
    status, report, complaints = load(
        "watch", "--url", quick_bridge, "--viewers", 5, "--slow", 1, "--frames", 10, "--rate", 50, "--size", 20_000, "--encoding", encoding)
    assert status == 0, complaints
    assert (report["viewers"], report["slow_viewers"], report["frames_sent"], report["delivered_share"]) == (5, 1, 10, 1)
    check_latency(report["latency"], 50)
    check_latency(report["first_viewer"], 10)
    check_latency(report["last_viewer"], 10)
    assert 1 < report["bytes"] / (5 * 10 * 20_000 * growth) < 1.1


def test_previews_of_samplers_are_stamped(binary):
    simulator = Process(binary, "simulate", "--port", 0, "--step-delay", 0, "--preview-bytes", 5000)
    bridge = Process(binary, "serve", "--port", 0, "--comfyui", simulator.url)
    stream = curl("-H", "Accept: text/event-stream", f"{bridge.url}/run", data=workflows.txt2img(steps=2)).body.decode()
    bridge.stop()
    simulator.stop()
    previews = [line for line in stream.splitlines() if line.startswith("data:") and "data_base64" in line]
    assert previews
    for line in previews:
        picture = base64.b64decode(json.loads(line[5:])["data_base64"])
        assert len(picture) == 5000 and picture[6:24] == b"comfy-bridge-load "


def test_idle_streams(load, quick_bridge):
    status, report, complaints = load("idle", "--url", quick_bridge, "--viewers", 20)
    assert status == 0, complaints
    assert report["viewers"] == 20


def test_ceiling(load, quick_simulator):
    status, report, complaints = load("ceiling", "--url", quick_simulator, "--jobs", 20, "--callers", 4, "--frames", 20)
    assert status == 0, complaints
    assert report["jobs"]["jobs"] == 20 and report["previews"]["frames"] == 20


def test_a_cut_output_is_wrong(load, binary):
    simulator = Process(binary, "simulate", "--port", 0, "--step-delay", 0, "--fault", "break-off=50")
    bridge = Process(binary, "serve", "--port", 0, "--comfyui", simulator.url)
    status, report, complaints = load("run", "--url", bridge.url, "--jobs", 2, "--verify")
    bridge.stop()
    simulator.stop()
    assert status == 1 and "job 0" in complaints
    assert report["jobs"] == 0


class Hub(http.server.BaseHTTPRequestHandler):
    """Fans out what is posted, as a plain server does. `server.spoil` may change what one viewer gets."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.wfile.flush()
        viewer = len(self.server.viewers)
        self.server.viewers.append(self.wfile)
        self.server.done.wait()

    def do_POST(self):
        frame = self.rfile.read(int(self.headers["Content-Length"]))
        for number, viewer in enumerate(self.server.viewers):
            with contextlib.suppress(OSError):  # it has left
                viewer.write(b"data: " + self.server.spoil(number, frame) + b"\n\n")
                viewer.flush()
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.viewers, server.done, server.spoil = [], threading.Event(), lambda viewer, frame: frame
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    server.url = f"http://127.0.0.1:{server.server_port}"
    yield server
    server.done.set()
    server.shutdown()
    thread.join()
    server.server_close()


def watch_plain(load, hub, *arguments):
    return load(
        "watch", "--dialect", "plain", "--url", hub.url, "--path", "/events", "--publish", f"{hub.url}/publish", "--viewers", 2, "--frames", 5,
        "--size", 20_000, "--timeout", 5, *arguments)


@pytest.mark.parametrize("rate", [50, 0])
def test_a_plain_hub(load, hub, rate):
    status, report, complaints = watch_plain(load, hub, "--rate", rate)
    assert status == 0, complaints
    assert report["delivered_share"] == 1
    check_latency(report["latency"], 10)


def flipped(frame, place):
    changed = bytearray(frame)
    changed[place] = ord("A") if changed[place] != ord("A") else ord("B")
    return bytes(changed)


@pytest.mark.parametrize(("spoil", "complaint"), [
    (lambda viewer, frame: flipped(frame, 10_000) if viewer == 1 else frame, "differs"),
    (lambda viewer, frame: flipped(frame, 10_000), "padding"),
    (lambda viewer, frame: frame[:-8], "bytes instead of"),
    (lambda viewer, frame: frame[:-8] if viewer == 1 else frame, "shorter"),
    (lambda viewer, frame: frame + b"AAAA" if viewer == 1 else frame, "longer"),
    (lambda viewer, frame: base64.b64encode(bytes(15_000)), "without a stamped preview"),
    (lambda viewer, frame: frame + b"\n\ndata: " + frame, "preview 0 after 0"),
], ids=["one viewer's byte", "everybody's byte", "everybody's end", "one viewer's end", "one viewer's surplus", "no stamp", "twice"])
def test_what_a_hub_does_wrong_is_found(load, hub, spoil, complaint):
    hub.spoil = spoil
    status, _, complaints = watch_plain(load, hub, "--rate", 50)
    assert status == 1
    assert complaint in complaints


def stamped(number, size=5000):
    """As the simulator makes them."""
    head = b"\xff\xd8\xff\xfe\x00\x33comfy-bridge-load %020d %010d" % (time.monotonic_ns(), number)
    tail = b"\xff\xdb\x00\x02\xff\xd9"
    padding = size - len(head) - len(tail)
    comment = b"\xff\xfe" + (padding - 2).to_bytes(2) + bytes((len(head) + place) % 251 for place in range(4, padding))
    return head + comment + tail


class Files(http.server.BaseHTTPRequestHandler):
    """A job with three previews, of which its events name the URLs; two viewers may get different `server.files`, one after the other."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/events?previews=url":
            events = [("preview", {"url": f"http://elsewhere/{number}"}) for number in range(3)] + [("output", {}), ("status", {"status": "succeeded"})]
            self.answer("text/event-stream", "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events).encode())
        else:
            self.answer("image/jpeg", self.server.files[int(self.path[1:])].pop())

    def answer(self, content_type, body):
        self.send_response(200 if body else 404)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(("spoil", "complaint"), [
    (lambda files: None, None),
    (lambda files: files.update({2: [flipped(files[2][0], 3000), files[2][1]]}), "differs"),
    (lambda files: files.update({2: [flipped(files[2][0], 3000)] * 2}), "padding"),
    (lambda files: files.update({2: [files[2][0][:-1], files[2][1]]}), "than for another"),
    (lambda files: files.update({2: files[1][:]}), "preview 1"),
    (lambda files: files.update({2: [b"GIF"] * 2}), "without a stamp"),
    (lambda files: files.update({2: [b""] * 2}), None),
], ids=["nothing", "one viewer's byte", "everybody's byte", "one viewer's end", "twice", "no stamp", "too late"])
def test_what_is_wrong_with_files_of_previews_is_found(load, spoil, complaint):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files) as server:
        server.files = {number: [stamped(number)] * 2 for number in range(3)}
        spoil(server.files)
        missing = sum(body == b"" for bodies in server.files.values() for body in bodies)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        status, report, complaints = load(
            "watch", "--url", f"http://127.0.0.1:{server.server_port}", "--path", "/events", "--viewers", 2, "--size", 5000, "--encoding", "url",
            "--timeout", 5)
        server.shutdown()
        thread.join()
    assert status == (1 if complaint else 0), complaints
    assert (complaint or "") in complaints
    if not complaint:
        assert "latency" not in report, "they were sent before the viewers came"
        assert report["frames_sent"] == (3 if not missing else 2)


def test_a_job_that_fails_is_wrong(load, quick_bridge, tmp_path):
    workflow = tmp_path / "workflow.json"
    workflow.write_text(json.dumps({
        "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}},
        "2": {"class_type": "SimRaise", "inputs": {"image": ["1", 0], "steps": 1, "message": "no"}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "x"}}}))
    status, report, complaints = load("run", "--url", quick_bridge, "--jobs", 1, "--workflow", workflow)
    assert status == 1 and "500" in complaints and report["jobs"] == 0
