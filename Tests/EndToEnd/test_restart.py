"""The bridge is killed (SIGKILL) in the middle of things, and started again on the same folder: nobody misses anything."""

import os
import signal
import socket
import sqlite3
import subprocess
import threading

import pytest

import workflows
from callers import Caller, until
from http_client import Stream, curl
from processes import Process


class Bridge:
    """A bridge on a folder, which can be killed and started again."""

    def __init__(self, binary, folder, simulator_url):
        self.binary, self.folder, self.simulator_url = binary, folder, simulator_url
        self.start()

    def start(self):
        self.process = Process(self.binary, "serve", "--port", 0, "--comfyui", self.simulator_url, "--data-dir", self.folder, "--queue-limit", 10_000)
        self.url = self.process.url
        # From the first answer on it also listens to signals.
        assert curl(f"{self.url}/api/v2/health").status == 200

    def kill(self):
        os.kill(self.process.process.pid, signal.SIGKILL)
        assert self.process.process.wait(30) == -signal.SIGKILL

    def restart(self):
        self.kill()
        self.start()

    def submit(self, graph, *arguments):
        reply = curl(*arguments, f"{self.url}/api/v2/jobs", data={"workflow": graph})
        assert reply.status == 201, reply.body
        return reply.json()["id"]

    def job(self, job_id):
        reply = curl(f"{self.url}/api/v2/jobs/{job_id}")
        assert reply.status == 200, reply.body
        return reply.json()

    def events(self, job_id, after=0):
        return curl("-N", f"{self.url}/api/v2/jobs/{job_id}/events?previews=none&last_event_id={after}").events()


@pytest.fixture(scope="module")
def simulator(binary):
    """One of its own: what other tests left running in theirs must not be waited for here."""
    process = Process(binary, "simulate", "--port", 0, "--step-delay", 40)
    yield process
    process.stop()


@pytest.fixture
def bridge(binary, simulator, tmp_path):
    bridge = Bridge(binary, tmp_path / "data", simulator.url)
    yield bridge
    bridge.process.stop()


def ids(events):
    return [int(event.id) for event in events if event.id]


def assert_whole(events):
    """Every id once, in order, outputs before the end."""
    assert ids(events) == list(range(1, len(ids(events)) + 1))
    assert events[-1].type == "status" and events[-1].data["status"] == "succeeded"
    assert "output" in [event.type for event in events[:-1]]


@pytest.mark.parametrize("moment", ["submitted", "running", "progress", "output", "succeeded"])
def test_killed_at(bridge, moment):
    job_id = bridge.submit(workflows.txt2img(steps=8))
    seen = []
    if moment != "submitted":
        with Stream(f"{bridge.url}/api/v2/jobs/{job_id}/events?previews=none&last_event_id=0") as stream:
            for event in stream:
                seen.append(event)
                if moment in (event.type, event.data.get("status")):
                    break
    bridge.restart()
    rest = bridge.events(job_id, after=max(ids(seen), default=0)) if moment != "succeeded" else []
    assert_whole([event for event in seen + rest if event.id])
    job = bridge.job(job_id)
    assert job["status"] == "succeeded" and len(job["outputs"]) == 1
    output = curl(f"{bridge.url}/api/v2/assets/{job['outputs'][0]['id']}/content")
    assert output.status == 200 and len(output.body) == job["outputs"][0]["size_bytes"]


@pytest.mark.parametrize("after", [1, 40, 150])
def test_whatever_was_accepted_is_there(bridge, after):
    """Callers submit as fast as they can; the bridge dies while it answers."""
    accepted, enough = [], threading.Event()

    def caller(number):
        while not enough.is_set():
            done = subprocess.run(
                ["curl", "-sS", "-o", "-", "--max-time", "30", "-w", "\n%{http_code}", f"{bridge.url}/api/v2/jobs", "-d",
                 '{"workflow": {"1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": %d}},'
                 ' "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "r"}}}}' % (number * 1000 + len(accepted))],
                capture_output=True, text=True)
            if done.returncode != 0:
                return
            body, status = done.stdout.rsplit("\n", 1)
            assert status == "201", done.stdout
            accepted.append(body.split('"id":"')[1][:36])
            if len(accepted) >= after:
                enough.set()

    callers = [threading.Thread(target=caller, args=(number,)) for number in range(4)]
    for thread in callers:
        thread.start()
    assert enough.wait(60)
    bridge.kill()
    for thread in callers:
        thread.join(60)
    bridge.start()
    assert len(accepted) >= after
    for job_id in accepted:
        assert_whole([event for event in bridge.events(job_id) if event.id])
    with sqlite3.connect(bridge.folder / "comfy-bridge.sqlite") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_stopped_orderly_it_goes_on_the_same(bridge):
    job_id = bridge.submit(workflows.txt2img(steps=8))
    bridge.process.stop()
    bridge.start()
    assert_whole([event for event in bridge.events(job_id) if event.id])


def test_secrets_are_in_no_file(bridge):
    secret = "sk-marker-9c41"
    reply = curl(f"{bridge.url}/api/v2/jobs", data={"workflow": workflows.txt2img(steps=20), "extra_data": {"api_key_comfy_org": secret}})
    assert reply.status == 201
    bridge.kill()
    files = [path for path in bridge.folder.rglob("*") if path.is_file()]
    assert any(path.name.endswith(".sqlite-wal") for path in files)
    assert [path for path in files if secret.encode() in path.read_bytes()] == []
    bridge.start()
    reply = curl(f"{bridge.url}/api/v2/jobs/{reply.json()['id']}")
    assert secret.encode() not in reply.body


def test_second_bridge_is_refused(bridge, binary):
    second = subprocess.run([binary, "serve", "--port", "0", "--data-dir", bridge.folder], capture_output=True, text=True, timeout=30)
    assert second.returncode == 2 and second.stdout == ""
    assert f"process {bridge.process.process.pid}" in second.stderr and "--data-dir" in second.stderr
    bridge.restart()


def test_folder_that_cannot_be_used_is_refused(binary):
    refused = subprocess.run([binary, "serve", "--port", "0", "--data-dir", "/proc/nothing"], capture_output=True, text=True, timeout=30)
    assert refused.returncode == 2 and "--data-dir" in refused.stderr and "none" in refused.stderr


def keyed(bridge, key, *arguments, workflow, query=""):
    return curl("-H", f"Idempotency-Key: {key}", *arguments, f"{bridge.url}/run{query}", data=workflow)


def test_a_caller_with_a_key_finds_its_job_at_the_next_bridge(bridge):
    workflow = workflows.txt2img(steps=50, seed=71)
    caller = Caller(bridge.url, "POST", "/run", {"Idempotency-Key": "k"}, workflow)
    until(lambda: curl(f"{bridge.url}/api/v2/jobs?status=running").json()["jobs"], "the job runs")
    (job,) = curl(f"{bridge.url}/api/v2/jobs?status=running").json()["jobs"]
    bridge.restart()
    caller.close()
    reply = keyed(bridge, "k", "-H", "Accept: image/png", workflow=workflow)
    assert (reply.status, reply.content_type, reply.headers["comfy-job-id"]) == (200, "image/png", job["id"])


@pytest.mark.parametrize("is_explicit", [False, True])
def test_why_a_job_was_canceled_is_known_to_the_next_bridge(bridge, is_explicit):
    workflow = workflows.endless()
    caller = Caller(bridge.url, "POST", "/run?on_disconnect=cancel", {"Idempotency-Key": "k"}, workflow)
    until(lambda: curl(f"{bridge.url}/api/v2/jobs?status=running").json()["jobs"], "the job runs")
    (job,) = curl(f"{bridge.url}/api/v2/jobs?status=running").json()["jobs"]
    if is_explicit:
        assert curl("-X", "POST", f"{bridge.url}{job['urls']['cancel']}").status == 200
    caller.close()
    until(lambda: bridge.job(job["id"])["status"] in ("canceling", "canceled"), "the job is canceled")
    bridge.restart()
    until(lambda: bridge.job(job["id"])["status"] == "canceled", "the job is canceled by the next one, too")
    reply = keyed(bridge, "k", "-H", "Prefer: respond-async", workflow=workflow)
    assert reply.status == 202
    assert (reply.json()["id"] == job["id"]) == is_explicit
    curl("-X", "POST", f"{bridge.url}{reply.json()['urls']['cancel']}")


def test_jobs_that_came_while_comfyui_was_away(binary, tmp_path):
    """Accepted by a bridge that never saw a ComfyUI, killed, run by the next one when ComfyUI is there."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        bridge = Bridge(binary, tmp_path / "data", f"http://127.0.0.1:{port}")
        jobs = [bridge.submit(workflows.plain(prefix=f"away{number}")) for number in range(3)]
        unknown = bridge.submit({"1": {"class_type": "NoSuchClass", "inputs": {}}})
        bridge.restart()
        assert [bridge.job(job)["queue_position"] for job in jobs] == [0, 1, 2]
    simulator = Process(binary, "simulate", "--port", port)
    try:
        for job in jobs:
            assert_whole(bridge.events(job))
        error = bridge.events(unknown)[-1].data["error"]
        assert error["code"] == "invalid_workflow" and error["details"]["node_errors"]["1"]
    finally:
        bridge.process.stop()
        simulator.stop()
