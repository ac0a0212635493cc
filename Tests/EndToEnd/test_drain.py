"""SIGTERM to the process: callers are sent away with their job, the rest may finish, and it is over in time."""

import json
import signal
import time

import pytest

import workflows
from callers import PATIENCE, Caller, until
from http_client import curl, parse_head
from processes import Process

LONG = 60
"""Seconds of a drain timeout that no test waits for."""


@pytest.fixture
def start(binary):
    """Starts a simulator and a bridge before it; both are the test's own to stop."""
    started = []

    def start(*arguments):
        simulator = Process(binary, "simulate", "--port", 0, "--step-delay", 50)
        bridge = Process(binary, "serve", "--port", 0, "--comfyui", simulator.url, *arguments)
        started.extend([bridge, simulator])
        assert curl(f"{bridge.url}/run", data=workflows.plain(prefix="first")).status == 200
        return simulator, bridge

    yield start
    for process in started:
        process.process.send_signal(signal.SIGCONT)
        process.process.kill()
        process.process.wait()


def end(bridge):
    """The exit status."""
    return bridge.process.wait(timeout=PATIENCE)


def paused_download(bridge):
    """A caller that reads no further, of whom the bridge does not know whether it will."""
    job = curl(f"{bridge.url}/run", data=workflows.large_output(30_000_000)).json()
    caller = Caller(bridge.url, "GET", job["outputs"][0]["url"].removeprefix(bridge.url), receive_buffer=16384)
    caller.read_until(b"\r\n\r\n")
    return caller


def draining(bridge):
    until(lambda: (reply := curl(f"{bridge.url}/readyz")).status == 503 and reply.json()["reason"] == "draining", "it drains")


def test_callers_get_their_job_and_the_process_ends(start, contract):
    simulator, bridge = start("--drain-timeout", LONG)
    blocked = Caller(bridge.url, "POST", "/run", body=workflows.endless())
    stream = Caller(bridge.url, "POST", "/run", {"Accept": "text/event-stream"}, workflows.endless())
    stream.read_until(b"event: job")
    until(lambda: curl(f"{simulator.url}/queue").json()["queue_running"], "the job runs")
    bridge.process.send_signal(signal.SIGTERM)
    head, _, body = blocked.read_all().partition(b"\r\n\r\n")
    assert stream.read_all().endswith(b"retry: 2000\n\r\n0\r\n\r\n")
    assert end(bridge) == 0
    code, headers = parse_head(head.decode())
    job = json.loads(body)
    contract.validate("Job", job)
    assert code == 202
    assert headers["location"] == f"/api/v2/jobs/{job['id']}"
    assert headers["retry-after"] == "5"
    assert "output folder" in job["message"] or "when the bridge is back" in job["message"] or "Submit it again" in job["message"]
    queue = curl(f"{simulator.url}/queue").json()
    assert len(queue["queue_running"]) == len(queue["queue_pending"]) == 1, "ComfyUI keeps what it has"


def test_the_job_of_a_caller_who_was_sent_away_is_finished_by_the_next_bridge(start, binary, tmp_path):
    simulator, bridge = start("--data-dir", tmp_path, "--drain-timeout", LONG)
    blocked = Caller(bridge.url, "POST", "/run", body=workflows.txt2img(steps=60))
    until(lambda: curl(f"{simulator.url}/queue").json()["queue_running"], "the job runs")
    bridge.process.send_signal(signal.SIGTERM)
    body = blocked.read_all().partition(b"\r\n\r\n")[2]
    assert end(bridge) == 0
    job = json.loads(body)
    assert job["status"] in ("queued", "running") and "when the bridge is back" in job["message"]
    again = Process(binary, "serve", "--port", 0, "--comfyui", simulator.url, "--data-dir", tmp_path)
    try:
        events = curl("-N", f"{again.url}{job['urls']['events']}").events()
        assert events[-1].data["status"] == "succeeded"
        finished = curl(f"{again.url}{job['urls']['self']}").json()
        assert len(finished["outputs"]) == 1
        assert len([entry for entry in curl(f"{simulator.url}/history").json() if entry == job["id"]]) == 1
    finally:
        again.stop()


def test_a_download_may_finish_and_the_door_stays_open_until_then(start):
    _, bridge = start("--drain-timeout", LONG)
    caller = paused_download(bridge)
    bridge.process.send_signal(signal.SIGTERM)
    draining(bridge)
    refused = curl(f"{bridge.url}/run", data=workflows.plain())
    assert refused.status == 503 and refused.json()["error"]["code"] == "shutting_down"
    assert "retry-after" in refused.headers
    assert curl(f"{bridge.url}/api/v2/health").status == 200
    # The rest of it; some came together with the head.
    assert len(caller.read_all()) > 29_000_000
    assert end(bridge) == 0


def test_what_does_not_end_is_cut_after_the_drain_timeout(start):
    _, bridge = start("--drain-timeout", 1)
    caller = paused_download(bridge)
    began = time.monotonic()
    bridge.process.send_signal(signal.SIGTERM)
    assert end(bridge) == 0
    assert time.monotonic() - began >= 1
    assert len(caller.read_all()) < 29_000_000


def test_comfyui_that_hangs_does_not_keep_the_process(start):
    """The bridge would like to take a job back that was canceled, and gets no answer."""
    simulator, bridge = start("--drain-timeout", 1)
    job = curl(f"{bridge.url}/api/v2/jobs", data={"workflow": workflows.endless()}).json()
    until(lambda: curl(f"{bridge.url}/api/v2/jobs/{job['id']}").json()["status"] == "running", "the job runs")
    simulator.process.send_signal(signal.SIGSTOP)
    assert curl("-X", "POST", f"{bridge.url}/api/v2/jobs/{job['id']}/cancel").json()["status"] == "canceling"
    bridge.process.send_signal(signal.SIGTERM)
    assert end(bridge) == 0


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once(start, second):
    _, bridge = start("--drain-timeout", LONG)
    caller = paused_download(bridge)
    bridge.process.send_signal(signal.SIGTERM)
    draining(bridge)
    bridge.process.send_signal(second)
    assert end(bridge) == 128 + second
    caller.close()
