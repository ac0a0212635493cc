"""Callers that go away, in every state of their request: that is noticed, and nothing of them stays."""

import os
import socket
import struct

import pytest

import workflows
from callers import Caller, until
from http_client import curl
from processes import Process

LEAVINGS = ["close", "reset"]
LARGE = 6_000_000
"""Bytes: more than the buffers of a connection take, and little enough to be made, hashed and stored quickly."""


@pytest.fixture
def slow_simulator(binary):
    process = Process(binary, "simulate", "--port", 0, "--step-delay", 50)
    yield process
    process.stop()


@pytest.fixture
def bridge(binary, slow_simulator, tmp_path):
    process = Process(binary, "serve", "--port", 0, "--comfyui", slow_simulator.url, "--data-dir", tmp_path, "--heartbeat", 3600)
    process.data = tmp_path
    assert curl(f"{process.url}/run", data=workflows.plain(prefix="first")).status == 200
    yield process
    process.stop()


def descriptors(process):
    """What the process has open, as the kernel names it."""
    folder = f"/proc/{process.process.pid}/fd"
    found = set()
    for name in os.listdir(folder):
        try:
            found.add(os.readlink(f"{folder}/{name}"))
        except FileNotFoundError:
            pass  # closed meanwhile
    return found


def other_end(process, caller):
    """The descriptor that the process has for this caller."""
    ends = [in_proc(caller.socket.getpeername()), in_proc(caller.socket.getsockname())]
    own = descriptors(process)
    with open("/proc/net/tcp") as table:
        rows = [row.split() for row in table]
    # A connection of before may have had the same ends; it belongs to nobody now.
    (name,) = [name for row in rows if row[1:3] == ends and (name := f"socket:[{row[9]}]") in own]
    return name


def in_proc(address):
    """An IPv4 address as /proc/net/tcp writes it: a number in the order of this machine's bytes, and the port."""
    return f"{struct.unpack('=I', socket.inet_aton(address[0]))[0]:08X}:{address[1]:04X}"


def jobs(bridge, status):
    return curl(f"{bridge.url}/api/v2/jobs?status={status}").json()["jobs"]


def run(bridge, workflow, accept="application/json"):
    return Caller(bridge.url, "POST", "/run", {"Accept": accept}, workflow)


def occupy(bridge):
    """ComfyUI has all that it is given at a time."""
    for seed in (1, 2):
        assert curl(f"{bridge.url}/api/v2/jobs", data={"workflow": workflows.txt2img(steps=10_000, seed=seed)}).status == 201
    until(lambda: curl(f"{bridge.url}/readyz").json()["comfyui"][0]["open_prompts"] == 2, "two jobs inside ComfyUI")


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream", "image/png"])
@pytest.mark.parametrize("leaving", LEAVINGS)
@pytest.mark.parametrize("state", ["queued", "running"])
def test_while_the_job_is(bridge, state, leaving, accept):
    if state == "queued":
        occupy(bridge)
    others = {job["id"] for job in jobs(bridge, "queued,running")}
    caller = run(bridge, workflows.txt2img(steps=10_000, seed=9), accept)
    mine = []

    def is_there():
        mine[:] = [job for job in jobs(bridge, state) if job["id"] not in others]
        return mine

    until(is_there, f"the job is {state}")
    getattr(caller, leaving)()
    until(lambda: curl(f"{bridge.url}/api/v2/jobs/{mine[0]['id']}").json()["status"] in ("canceling", "canceled"), "the job is canceled")
    assert {job["id"] for job in jobs(bridge, "queued,running")} == others, "nobody else's job was touched"


@pytest.mark.parametrize("leaving", LEAVINGS)
def test_while_comfyui_takes_the_job(bridge, slow_simulator, leaving):
    fault = {"fault": "delay-answer", "value": 4000, "only": "POST /prompt"}
    assert curl(f"{slow_simulator.url}/simulator/faults", data=fault).status < 300
    caller = run(bridge, workflows.endless())
    until(lambda: curl(f"{bridge.url}/readyz").json()["comfyui"][0]["open_prompts"] == 1, "the job is being handed over")
    getattr(caller, leaving)()
    until(lambda: jobs(bridge, "canceling,canceled"), "the job is to be canceled")
    until(lambda: jobs(bridge, "canceled"), "the job is canceled")
    queue = curl(f"{slow_simulator.url}/queue").json()
    assert queue["queue_running"] == queue["queue_pending"] == [], "nothing of it is left inside ComfyUI"


@pytest.mark.parametrize("leaving", LEAVINGS)
def test_one_of_two_callers_of_a_job(bridge, leaving):
    """The job goes on for the other one."""
    headers = {"Idempotency-Key": "shared", "Accept": "text/event-stream"}
    first = Caller(bridge.url, "POST", "/run?on_disconnect=cancel", headers, workflows.endless())
    first.read_until(b"event: progress")
    second = Caller(bridge.url, "POST", "/run?on_disconnect=cancel", headers, workflows.endless())
    second.read_until(b"event: progress")
    getattr(first, leaving)()
    job = jobs(bridge, "running")[0]["id"]
    second.read_until(b"event: progress")
    assert curl(f"{bridge.url}/api/v2/jobs/{job}").json()["status"] == "running"
    getattr(second, leaving)()
    until(lambda: jobs(bridge, "canceled"), "the job is canceled with its last caller")


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream", "image/png"])
@pytest.mark.parametrize("leaving", LEAVINGS)
def test_with_a_key(bridge, leaving, accept):
    """It means to come again: the job goes on, and the next try finds it."""
    workflow = workflows.txt2img(steps=40, seed=17)
    first = Caller(bridge.url, "POST", "/run", {"Idempotency-Key": "again", "Accept": accept}, workflow)
    until(lambda: jobs(bridge, "running"), "the job runs")
    job = jobs(bridge, "running")[0]["id"]
    getattr(first, leaving)()
    reply = curl(f"{bridge.url}/run", "-H", "Idempotency-Key: again", "-H", "Accept: image/png", data=workflow)
    assert (reply.status, reply.content_type, reply.headers["comfy-job-id"]) == (200, "image/png", job)


@pytest.mark.parametrize("leaving", LEAVINGS)
@pytest.mark.parametrize("what", ["base64", "stored", "passed through"])
def test_while_the_answer_is_sent(bridge, what, leaving, tmp_path):
    if what == "stored":
        file = tmp_path / "large.bin"
        file.write_bytes(os.urandom(LARGE))
        target = curl("-F", f"file=@{file}", f"{bridge.url}/api/v2/assets").json()["url"].removeprefix(bridge.url)
        request = ("GET", target, None)
    elif what == "passed through":
        job = curl(f"{bridge.url}/run", data=workflows.large_output(LARGE)).json()
        request = ("GET", job["outputs"][0]["url"].removeprefix(bridge.url), None)
    else:
        request = ("POST", "/run?outputs=base64", workflows.large_output(LARGE))
    method, target, body = request
    caller = Caller(bridge.url, method, target, body=body, receive_buffer=16384)
    caller.read_until(b"\r\n\r\n")
    connection = other_end(bridge, caller)
    getattr(caller, leaving)()
    until(lambda: connection not in descriptors(bridge), "the connection is closed")


@pytest.mark.parametrize("leaving", LEAVINGS)
def test_in_the_middle_of_an_upload(bridge, leaving):
    def parts():
        return list(bridge.data.glob("**/*.part"))

    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
    caller = Caller(
        bridge.url, "POST", "/api/v2/assets", {"Content-Type": "multipart/form-data; boundary=x", "Content-Length": 100_000_000},
        head + bytes(1_000_000))
    until(parts, "the file is being written")
    connection = other_end(bridge, caller)
    getattr(caller, leaving)()
    until(lambda: not parts() and connection not in descriptors(bridge), "the half of a file is removed")


@pytest.mark.parametrize("leaving", LEAVINGS)
def test_while_a_stream_has_nothing_to_send(bridge, leaving):
    occupy(bridge)
    job = curl(f"{bridge.url}/api/v2/jobs", data={"workflow": workflows.plain()}).json()
    caller = Caller(bridge.url, "GET", f"/api/v2/jobs/{job['id']}/events")
    caller.read_until(b"queued")
    connection = other_end(bridge, caller)
    getattr(caller, leaving)()
    until(lambda: connection not in descriptors(bridge), "the connection is closed")
    assert curl(f"{bridge.url}/api/v2/jobs/{job['id']}").json()["status"] == "queued", "a viewer is nobody whose leaving counts"


def test_without_a_word(bridge):
    """Nothing tells but the kernel's probe, after 10 seconds of silence."""
    occupy(bridge)
    caller = run(bridge, workflows.plain())
    until(lambda: len(jobs(bridge, "queued")) == 2, "the job is queued")
    caller.vanish()
    until(lambda: jobs(bridge, "canceled"), "the job is canceled")
