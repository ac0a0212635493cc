"""The official SDK (PyPI comfy-sdk), unchanged: jobs, their events and their outputs, by both of its clients."""

import asyncio
import io
import json
import os
import threading
from datetime import UTC, datetime

import comfy_low
import comfy_sdk
import pytest

import workflows
from http_client import curl
from pictures import pixels
from processes import Process
from proxies import RecordingProxy
from sdk_clients import EventLoop, job_until, until_running

BIG_SEED = 2**64 - 1


def of_type(events, kind):
    return [event for event in events if isinstance(event, kind)]


def polls(proxy, job):
    return proxy.sent().count(f"GET /api/v2/jobs/{job.id} HTTP".encode())


# Submit, run, wait


def test_run_and_outputs(client, tmp_path):
    job = client.run(client.workflows.from_json(workflows.plain(color=0x123456)))
    assert job.status == "succeeded"
    [output] = job.outputs
    data = output.to_bytes()
    assert (len(data), output.type, output.content_type, output.job_id) == (output.size_bytes, "image", "image/png", job.id)
    assert pixels(data).getpixel((0, 0)) == (0xFF - 0x12, 0xFF - 0x34, 0xFF - 0x56)
    assert output.to_file(tmp_path / "a.png").read_bytes() == data
    stream = io.BytesIO()
    assert output.to_stream(stream) == len(data) and stream.getvalue() == data
    assert output.to_bytes(range=(1, 3)) == b"PNG"
    assert output.to_file(tmp_path / "part", range=(len(data) - 4, len(data) + 100)).read_bytes() == data[-4:], "a range that reaches beyond the end"
    with pytest.raises(comfy_sdk.ComfyError) as caught:
        output.to_bytes(range=(len(data), len(data)))
    assert (caught.value.http_status, caught.value.code) == (416, "range_not_satisfiable")
    assert curl(output.get_download_url().url).body == data
    assert [found.name for found in job.get_outputs("3")] == [output.name] and job.get_outputs("1") == []


def test_outputs_of_every_kind(client):
    job = client.run(client.workflows.from_json(workflows.every_kind()))
    assert {output.type for output in job.outputs} == {"image", "video", "audio", "file", "latent", "text"}
    assert all(len(output.to_bytes()) == output.size_bytes for output in job.outputs)


def test_submit_wait_and_read_back(client, tmp_path):
    graph = workflows.txt2img(steps=1, seed=BIG_SEED)
    file = tmp_path / "workflow_api.json"
    file.write_text(json.dumps(graph))
    before = datetime.now(UTC)
    job = client.submit(client.workflows.from_file(file), metadata={"client": "acme", "n": "1"})
    assert job.status in ("queued", "running", "succeeded")
    assert job.wait(timeout=120).status == "succeeded"
    assert job.metadata == {"client": "acme", "n": "1"}
    again = client.jobs.get(job.id)
    assert again.status == "succeeded" and again.metadata == job.metadata
    assert again.refresh().id == job.id
    workflow = again.get_workflow()
    assert (workflow.format, workflow.graph) == ("api", graph)
    assert list(workflow.graph) == list(graph), "in the order that was sent"
    listed = next(item for item in client.list_jobs() if item.id == job.id)
    assert before.replace(microsecond=0) <= listed.create_time <= listed.update_time


def test_run_returns_when_the_job_ends(bridge, connect):
    """The SDK only polls. Its first poll is held until the job is over, so there is no second one, and no pause before it."""
    with RecordingProxy(bridge) as proxy:
        client = connect(proxy.url)
        for milliseconds in (0, 1200):
            job = client.run(client.workflows.from_json(workflows.waiting(milliseconds)))
            assert job.status == "succeeded"
            assert polls(proxy, job) == 1, f"the job of {milliseconds} ms"
        job = client.submit(client.workflows.from_json(workflows.waiting(600)))
        assert job.wait(timeout=120).status == "succeeded" and polls(proxy, job) == 1


def test_polls_are_not_held_when_that_is_turned_off(start_bridge, connect):
    with RecordingProxy(start_bridge("--sdk-hold", 0).url) as proxy:
        client = connect(proxy.url)
        job = client.submit(client.workflows.from_json(workflows.waiting(60_000)))
        for give_up in (lambda: job.wait(timeout=0.1), lambda: client.run(client.workflows.from_json(workflows.waiting(1)), timeout=0.1)):
            with pytest.raises(TimeoutError, match="not terminal after 0.1s"):
                give_up()
        assert polls(proxy, job) == 2
        assert job.cancel().wait(timeout=120).status == "canceled"


def test_list_jobs(client):
    label = os.urandom(4).hex()
    jobs = [client.submit(client.workflows.from_json(workflows.plain()), metadata={"run": label, "n": str(n)}) for n in range(5)]
    for job in jobs:
        job.wait(timeout=120)
    listed = list(client.list_jobs(metadata={"run": label}, limit=2))
    assert [item.id for item in listed] == [job.id for job in reversed(jobs)], "newest first, over three pages"
    assert {item.status for item in listed} == {"succeeded"}
    assert [item.metadata["n"] for item in listed] == ["4", "3", "2", "1", "0"]
    assert [item.id for item in client.list_jobs(metadata={"run": label, "n": "3"})] == [jobs[3].id]
    assert list(client.list_jobs(metadata={"run": label, "n": "5"})) == []
    with pytest.raises(comfy_low.errors.ApiError) as caught:
        client._low.list_jobs(cursor="nonsense")  # the SDK itself sends none but the server's own
    assert caught.value.code == "invalid_cursor"


# Events


def test_events(client):
    job = client.submit(client.workflows.from_json(workflows.txt2img(steps=4, seed=int.from_bytes(os.urandom(6)))))
    second = []
    viewer = threading.Thread(target=lambda: second.extend(client.jobs.get(job.id).events()))
    viewer.start()
    first, early = [], []
    for event in job.events():
        first.append(event)
        if isinstance(event, comfy_sdk.OutputReady):
            early.append(event.output.to_bytes())
    viewer.join(30)
    for seen in (first, second):
        assert isinstance(seen[-1], comfy_sdk.StatusChange) and seen[-1].status == "succeeded"
        [ready] = of_type(seen, comfy_sdk.OutputReady)
        assert [ready.output.to_bytes()] == early, "what is ready can be fetched before the job's end"
        values = [event.value for event in of_type(seen, comfy_sdk.Progress)]
        assert values == sorted(values) and values[-1] == 1
    steps = {(event.step, event.steps) for event in of_type(first, comfy_sdk.Progress) if event.current_node == "3" and event.step}
    assert steps and {total for _, total in steps} == {4}, "each snapshot supersedes the one before, so which ones are seen is a matter of speed"
    for preview in of_type(first, comfy_sdk.Preview):
        image = preview.to_pil()
        image.load()
        assert (preview.node_id, preview.content_type, image.format) == ("3", "image/jpeg", "JPEG")
    assert of_type(first, comfy_sdk.Preview)


def test_events_of_a_finished_job(client):
    job = client.run(client.workflows.from_json(workflows.plain()))
    assert [type(event).__name__ for event in list(job.events())[-2:]] == ["OutputReady", "StatusChange"]


def test_events_of_a_failed_job(client):
    job = client.submit(client.workflows.from_json(workflows.raising()))
    assert list(job.events())[-1] == comfy_sdk.StatusChange(status="failed")
    assert job.refresh().error.node_id == "2"


# Cancel


def test_cancel(client):
    running = client.submit(client.workflows.from_json(workflows.endless()))
    job_until(running, lambda event: isinstance(event, comfy_sdk.Progress) and event.step)
    queued, third = (client.submit(client.workflows.from_json(workflows.waiting(1))) for _ in range(2))
    assert third.status == "queued"
    assert third.cancel().wait(timeout=120).status == "canceled"
    assert running.cancel().status in ("canceling", "canceled")
    assert running.wait(timeout=120).status == "canceled"
    assert running.cancel().status == "canceled", "canceling twice changes nothing"
    assert queued.wait(timeout=120).status == "succeeded", "the ComfyUI is free again"
    assert queued.cancel().status == "succeeded", "it was too late"


def test_a_job_that_somebody_canceled_has_no_result(client, bridge):
    job = client.submit(client.workflows.from_json(workflows.endless()))
    until_running(job)
    assert curl("-X", "POST", f"{bridge}/api/v2/jobs/{job.id}/cancel").status == 200
    with pytest.raises(comfy_sdk.JobFailed, match="ended canceled"):
        job.result()


# What goes along


def test_partner_key_reaches_comfyui_and_nobody_else(binary, simulator, connect):
    key = f"comfyui-{os.urandom(8).hex()}"
    with RecordingProxy(simulator.url) as proxy:
        process = Process(binary, "serve", "--port", 0, "--comfyui", proxy.url)
        try:
            client = connect(process.url)
            job = client.submit(client.workflows.from_json(workflows.plain()), api_key=key).result()
            assert f'"api_key_comfy_org":"{key}"'.encode() in proxy.sent().replace(b": ", b":")
            for path in ("", "/workflow", "/events"):
                reply = curl(f"{process.url}/api/v2/jobs/{job.id}{path}")
                assert reply.status == 200 and key.encode() not in reply.body
        finally:
            process.stop()


def test_many_at_once_on_one_event_loop(bridge, monkeypatch):
    """As asynchronous programs do it: every job runs and is watched at the same time as the others."""
    monkeypatch.setenv("COMFY_BASE_URL", bridge)

    async def main():
        async with comfy_sdk.AsyncComfy() as client:

            async def watched(n):
                job = await client.submit(client.workflows.from_json(workflows.txt2img(steps=1, seed=n)))
                events, done = await asyncio.gather(collect(job), (await client.jobs.get(job.id)).result())
                assert events[-1].status == done.status == "succeeded"
                return await done.outputs[0].to_bytes()

            async def collect(job):
                return [event async for event in job.events()]

            pictures = await asyncio.gather(*(watched(int.from_bytes(os.urandom(6))) for _ in range(8)))
            assert len(set(pictures)) == 8, "each got the picture of its own seed"

    with EventLoop() as loop:
        loop.run(main())


# Several ComfyUIs


@pytest.mark.simulated("starts another one")
def test_an_output_is_the_input_of_another_comfyui(binary, simulator, connect):
    """While the ComfyUI that made the picture is busy, the next job runs on the other one."""
    other = Process(binary, "simulate", "--port", 0, "--step-delay", 1)
    process = Process(binary, "serve", "--port", 0, "--comfyui", simulator.url, "--comfyui", other.url)
    try:
        client = connect(process.url)

        def has(url, output):
            return curl(f"{url}/view?filename={output.name}").status == 200

        first = client.run(client.workflows.from_json(workflows.plain(color=0x2468AC, prefix=f"made-{os.urandom(3).hex()}"))).outputs[0]
        [owner] = [url for url in (simulator.url, other.url) if has(url, first)]
        busy = []
        while not curl(f"{owner}/queue").json()["queue_running"]:
            busy.append(client.submit(client.workflows.from_json(workflows.waiting(60_000))))
            until_running(busy[-1])
        for job in busy[:-1]:
            job.cancel().wait(timeout=120)
        second = client.run(client.workflows.from_json(workflows.inverting(client.assets.get(first.id)))).outputs[0]
        assert not has(owner, second), "it ran on the other one"
        assert pixels(second.to_bytes()).getpixel((0, 0)) == (0x24, 0x68, 0xAC)
        busy[-1].cancel().wait(timeout=120)
    finally:
        process.stop()
        other.stop()
