"""Viewers that stop reading: nobody else notices, memory stays where it is, and they are told what they missed."""

import threading

import workflows
from callers import Caller
from http_client import Stream, curl, parse_events
from processes import Process

STOPPED = 500
STEPS = 160
STEP_DELAY = 50
"""Milliseconds: 20 previews a second, of about 50 KB as base64."""


def memory(process):
    """Resident, in MB."""
    with open(f"/proc/{process.process.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


def previews(events):
    return [event.data["number"] for event in events if event.type == "preview"]


def dropped(events):
    return sum(event.data["previews"] for event in events if event.type == "dropped")


def test_500_stopped_readers(binary):
    simulator = Process(binary, "simulate", "--port", 0, "--step-delay", STEP_DELAY, "--preview-size", 512)
    bridge = Process(binary, "serve", "--port", 0, "--comfyui", simulator.url)
    try:
        # Behind a job that is canceled when all viewers are there.
        first = curl(f"{bridge.url}/api/v2/jobs", data={"workflow": workflows.endless()}).json()["id"]
        job = curl(f"{bridge.url}/api/v2/jobs", data={"workflow": workflows.txt2img(steps=STEPS, size=512)}).json()["id"]
        target = f"/api/v2/jobs/{job}/events"
        stopped = [Caller(bridge.url, "GET", target, {"Connection": "close"}, receive_buffer=4096) for _ in range(STOPPED)]
        with Stream(f"{bridge.url}{target}") as reader:
            events = []
            reading = threading.Thread(target=lambda: events.extend(reader))
            reading.start()
            openings = [caller.read_until(b"queued") for caller in stopped]
            before = memory(bridge)
            curl("-X", "POST", f"{bridge.url}/api/v2/jobs/{first}/cancel")
            reading.join()
        after = memory(bridge)

        assert events[-1].data["status"] == "succeeded"
        assert previews(events) == list(range(1, STEPS + 1)), "the one who reads gets every preview"
        assert dropped(events) == 0
        # Its end has come, while the others have read nothing: ComfyUI was not held up.
        assert after - before < 60, f"from {before:.0f} to {after:.0f} MB"
        print(f"{before:.1f} MB before, {after:.1f} MB after {STEPS} previews with {STOPPED} stopped readers")

        # One of them reads on: it is told how many it missed, and gets everything else.
        late = parse_events(body_of(openings[0] + stopped[0].read_all()).decode())
        assert 0 < dropped(late) < STEPS
        assert len(previews(late)) + dropped(late) == STEPS
        assert previews(late) == sorted(previews(late))
        assert late[-1].data["status"] == "succeeded"
        ids = [int(event.id) for event in events if event.id]
        assert [int(event.id) for event in late if event.id] == ids
        for caller in stopped[1:]:
            caller.reset()
    finally:
        bridge.stop()
        simulator.stop()


def body_of(answer):
    """The chunks of an answer, put together."""
    body = b""
    rest = answer.partition(b"\r\n\r\n")[2]
    while size := int((parts := rest.partition(b"\r\n"))[0], 16):
        body += parts[2][:size]
        rest = parts[2][size + 2 :]
    return body
