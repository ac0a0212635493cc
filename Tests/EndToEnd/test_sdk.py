"""The official SDK (PyPI comfy-sdk), unchanged and pointed at the bridge as its users do it: with COMFY_BASE_URL."""

import asyncio
import io
import os
import threading

import comfy_low
import comfy_sdk
import pytest
from comfy_sdk import AsyncComfy, Comfy
from PIL import Image, ImageChops, ImageOps

import workflows
from http_client import curl
from processes import Process
from proxies import RecordingProxy

BIG_SEED = 2**64 - 1


@pytest.fixture
def target(monkeypatch):
    """Points the SDK at a URL."""

    def point(url):
        monkeypatch.setenv("COMFY_BASE_URL", url)
        monkeypatch.delenv("COMFY_API_KEY", raising=False)

    return point


@pytest.fixture
def client(bridge, target):
    target(bridge)
    with Comfy() as client:
        yield client


def run_async(bridge, target, body):
    """Runs `body(client)` with the asynchronous client."""

    async def main():
        target(bridge)
        async with AsyncComfy() as client:
            await body(client)

    asyncio.run(asyncio.wait_for(main(), 60))


def submission(client, graph):
    return client.workflows.from_json(graph)


def picture(color, size=(40, 30)):
    """A PNG that no other test sends."""
    image = Image.new("RGB", size, color)
    image.putpixel((3, 4), (255, 255, 255))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def unique():
    return "#" + os.urandom(3).hex()


def pixels(data):
    return Image.open(io.BytesIO(data)).convert("RGB")


def same(left, right):
    return left.size == right.size and ImageChops.difference(left, right).getbbox() is None


def inverting(image, prefix="inverted"):
    """Loads a picture and saves it inverted."""
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": image}},
        "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": prefix}},
    }


def waiting(milliseconds, color=None):
    return {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 16, "batch_size": 1, "color": color or int.from_bytes(os.urandom(3))}},
        "2": {"class_type": "SimDelay", "inputs": {"image": ["1", 0], "milliseconds": milliseconds, "interruptible": True}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "waited"}},
    }


# Jobs


def test_run_and_outputs(client, tmp_path):
    job = client.run(submission(client, workflows.plain(color=0x123456)))
    assert job.status == "succeeded"
    [output] = job.outputs
    data = output.to_bytes()
    assert len(data) == output.size_bytes and output.type == "image" and output.content_type == "image/png" and output.job_id == job.id
    assert pixels(data).getpixel((0, 0)) == (0xFF - 0x12, 0xFF - 0x34, 0xFF - 0x56)
    assert output.to_file(tmp_path / "a.png").read_bytes() == data
    stream = io.BytesIO()
    assert output.to_stream(stream) == len(data) and stream.getvalue() == data
    assert output.to_bytes(range=(1, 3)) == b"PNG"
    url = output.get_download_url()
    assert curl(url.url).body == data
    assert [o.name for o in job.get_outputs("3")] == [output.name] and job.get_outputs("1") == []


def test_submit_wait_and_workflow(client):
    graph = workflows.txt2img(steps=1, seed=BIG_SEED)
    job = client.submit(submission(client, graph), metadata={"client": "acme", "n": "1"})
    assert job.status in ("queued", "running", "succeeded")
    assert job.wait(timeout=30).status == "succeeded"
    assert job.metadata == {"client": "acme", "n": "1"}
    again = client.jobs.get(job.id)
    assert again.status == "succeeded" and again.metadata == job.metadata
    workflow = again.get_workflow()
    assert workflow.format == "api" and workflow.graph == graph
    with pytest.raises(comfy_sdk.NotFound):
        client.jobs.get("00000000-0000-4000-8000-000000000000")


def test_wait_gives_up(client):
    job = client.submit(submission(client, waiting(60_000)))
    with pytest.raises(TimeoutError):
        job.wait(timeout=0.1)
    assert job.cancel().wait(timeout=30).status == "canceled"


def test_events(client):
    job = client.submit(submission(client, workflows.txt2img(steps=4, seed=501)))
    second = []
    viewer = threading.Thread(target=lambda: second.extend(client.jobs.get(job.id).events()))
    viewer.start()
    events = list(job.events())
    viewer.join(30)
    for seen in (events, second):
        last = seen[-1]
        assert isinstance(last, comfy_sdk.StatusChange) and last.status == "succeeded"
        outputs = [event for event in seen if isinstance(event, comfy_sdk.OutputReady)]
        assert len(outputs) == 1 and outputs[0].output.to_bytes() == outputs[0].output.to_bytes()
        values = [event.value for event in seen if isinstance(event, comfy_sdk.Progress)]
        assert values == sorted(values) and values[-1] == 1
    previews = [event for event in events if isinstance(event, comfy_sdk.Preview)]
    assert previews and previews[-1].to_pil().size[0] > 0
    assert any(event.steps == 4 for event in events if isinstance(event, comfy_sdk.Progress))


def test_events_of_a_finished_job(client):
    job = client.run(submission(client, workflows.plain()))
    events = list(job.events())
    assert [type(event).__name__ for event in events[-2:]] == ["OutputReady", "StatusChange"]


def test_cancel(client):
    running = client.submit(submission(client, workflows.endless()))
    for event in running.events():
        if isinstance(event, comfy_sdk.Progress) and event.step:
            break
    queued = client.submit(submission(client, waiting(1)))
    third = client.submit(submission(client, waiting(1)))
    assert third.cancel().wait(timeout=30).status == "canceled"
    assert running.cancel().status in ("canceling", "canceled")
    assert running.wait(timeout=30).status == "canceled"
    assert running.cancel().status == "canceled", "canceling twice changes nothing"
    assert queued.wait(timeout=30).status == "succeeded"


def test_list_jobs(client):
    label = os.urandom(4).hex()
    jobs = [client.submit(submission(client, workflows.plain()), metadata={"run": label, "n": str(n)}) for n in range(5)]
    for job in jobs:
        job.wait(timeout=30)
    listed = list(client.list_jobs(metadata={"run": label}, limit=2))
    assert [item.id for item in listed] == [job.id for job in reversed(jobs)], "newest first, over three pages"
    assert {item.status for item in listed} == {"succeeded"}
    assert all(item.create_time and item.update_time and item.create_time <= item.update_time for item in listed)
    assert [item.id for item in client.list_jobs(metadata={"run": label, "n": "3"})] == [jobs[3].id]
    with pytest.raises(comfy_low.errors.ApiError) as caught:
        client._low.list_jobs(cursor="nonsense")
    assert caught.value.code == "invalid_cursor"


@pytest.mark.parametrize("milliseconds", [0, 1200])
def test_run_returns_when_the_job_ends(bridge, target, milliseconds):
    """The SDK only polls: its first poll is held until the job is over, so there is no second one."""
    with RecordingProxy(bridge) as proxy:
        target(proxy.url)
        with Comfy() as client:
            job = client.run(submission(client, waiting(milliseconds)))
        assert job.status == "succeeded"
        assert proxy.sent().count(f"GET /api/v2/jobs/{job.id} HTTP".encode()) == 1


# Assets


def test_assets_are_uploaded_once(bridge, target, tmp_path):
    data = picture(unique())
    file = tmp_path / "Ein schönes Bild.png"
    file.write_bytes(data)
    with RecordingProxy(bridge) as proxy:
        target(proxy.url)
        with Comfy() as client:
            first = client.assets.from_file(file)
            assert client.assets.get(first.commit()).file_path == "Ein schönes Bild.png"
            assert first.created_new is True and first.expires_at is not None
            for asset in (client.assets.from_bytes(data, filename="b.png"), client.assets.from_stream(io.BytesIO(data), filename="c.png")):
                asset.commit()
                assert asset.created_new is False and asset.hash == first.hash and asset.id != first.id
            assert curl(first.get_download_url().url).body == data
        assert proxy.sent().count(data) == 1, "the bytes went over the wire once"


def test_an_uploaded_picture_is_an_input(client):
    data = picture(unique())
    job = client.run(submission(client, inverting(client.assets.from_bytes(data, filename="sub dir/photo ä.png"))))
    assert same(pixels(job.outputs[0].to_bytes()), ImageOps.invert(pixels(data)))


def test_an_uploaded_picture_is_used_by_its_name(client):
    data = picture(unique())
    name = f"named-{os.urandom(4).hex()}.png"
    client.assets.from_bytes(data, filename=name).commit()
    job = client.run(submission(client, inverting(name)))
    assert same(pixels(job.outputs[0].to_bytes()), ImageOps.invert(pixels(data)))


def test_delete(client):
    asset = client.assets.from_bytes(picture(unique()), filename="gone.png")
    reference = asset.as_reference()
    identifier = asset.id
    asset.delete()
    with pytest.raises(comfy_sdk.NotFound):
        client.assets.get(identifier)
    with pytest.raises(comfy_sdk.MissingAsset) as caught:
        client.submit(submission(client, inverting(reference)))
    assert caught.value.details["missing_ids"] == [identifier]


def test_an_output_is_the_next_input(client):
    first = client.run(submission(client, workflows.txt2img(steps=1, seed=77)))
    output = first.outputs[0]
    reference = {"__type": "core/ASSET", "info": {"id": output.id}}
    second = client.run(submission(client, inverting(reference)))
    assert same(pixels(second.outputs[0].to_bytes()), ImageOps.invert(pixels(output.to_bytes())))


def test_an_output_is_the_input_of_another_comfyui(binary, simulator, target):
    """While the ComfyUI that made the picture is busy, the next job runs on the other one."""
    other = Process(binary, "simulate", "--port", 0, "--step-delay", 1)
    process = Process(binary, "serve", "--port", 0, "--comfyui", simulator.url, "--comfyui", other.url)
    try:
        target(process.url)
        with Comfy() as client:
            first = client.run(submission(client, workflows.plain(color=0x2468AC, prefix=f"made-{os.urandom(3).hex()}")))
            output = first.outputs[0]
            owner = next(url for url in (simulator.url, other.url) if curl(f"{url}/view?filename={output.name}").status == 200)
            busy = []
            while not curl(f"{owner}/queue").json()["queue_running"]:
                busy.append(client.submit(submission(client, waiting(60_000))))
                next(event for event in busy[-1].events() if isinstance(event, comfy_sdk.StatusChange) and event.status == "running")
            for job in busy[:-1]:
                job.cancel().wait(timeout=30)
            second = client.run(submission(client, inverting({"__type": "core/ASSET", "info": {"id": output.id}}, prefix=f"other-{os.urandom(3).hex()}")), timeout=30)
            assert curl(f"{owner}/view?filename={second.outputs[0].name}").status == 404, "it ran on the other one"
            assert same(pixels(second.outputs[0].to_bytes()), ImageOps.invert(pixels(output.to_bytes())))
            busy[-1].cancel().wait(timeout=30)
    finally:
        process.stop()
        other.stop()


# Errors


def test_typed_errors(client):
    with pytest.raises(comfy_sdk.WorkflowFormatUi):
        client.submit(submission(client, workflows.ui_format()))
    with pytest.raises(comfy_sdk.InvalidWorkflow) as caught:
        client.submit(submission(client, {"1": {"class_type": "NoSuchNode", "inputs": {}}}))
    assert caught.value.details["node_errors"]["1"][0]["reason"] == "missing_node_type"
    key = os.urandom(8).hex()
    client.submit(submission(client, workflows.plain()), idempotency_key=key)
    with pytest.raises(comfy_sdk.IdempotencyKeyReuse) as caught:
        client.submit(submission(client, workflows.plain()), idempotency_key=key)
    assert caught.value.idempotency_key == key
    with pytest.raises(comfy_sdk.JobFailed) as caught:
        client.run(submission(client, workflows.raising()))
    assert caught.value.error.code == "node_execution_error" and caught.value.error.node_id == "2" and "roof is on fire" in caught.value.error.message


def test_typed_errors_of_assets(client):
    with pytest.raises(comfy_low.errors.ApiError) as caught:
        client._low.post_assets(io.BytesIO(b"abc"), "text/plain", "a.txt", expected_hash="blake3:" + "0" * 64)
    assert isinstance(comfy_sdk.exceptions.to_sdk_error(caught.value), comfy_sdk.HashMismatch)
    with pytest.raises(comfy_low.errors.ApiError) as caught:
        client._low.asset_from_hash("blake3:" + "0" * 64)
    assert isinstance(comfy_sdk.exceptions.to_sdk_error(caught.value), comfy_sdk.exceptions.BlobNotFound)
    assert client._low.head_asset_by_hash("blake3:" + "0" * 64) is False


def test_a_full_queue(start_bridge, target, monkeypatch):
    # The SDK tries again for a minute when it is told to; here one answer is enough.
    monkeypatch.setattr(comfy_sdk.client, "_QUEUE_RETRY_BUDGET", 0)
    process = start_bridge("--queue-limit", 1)
    target(process.url)
    with Comfy() as client:
        running = client.submit(submission(client, waiting(60_000)))
        next(event for event in running.events() if isinstance(event, comfy_sdk.StatusChange) and event.status == "running")
        with pytest.raises(comfy_sdk.QueueFull) as caught:
            for _ in range(4):  # one more waits inside ComfyUI, one in the bridge
                client.submit(submission(client, waiting(60_000)))
        assert caught.value.retry_after > 0


def test_tokens(start_bridge, target):
    process = start_bridge("--token", "an-sdk-token-0123456789")
    target(process.url)
    with Comfy() as client, pytest.raises(comfy_sdk.Unauthorized):
        client.submit(submission(client, workflows.plain()))
    with Comfy(api_key="wrong-token-0123456789") as client, pytest.raises(comfy_sdk.Unauthorized):
        client.assets.from_bytes(b"abc").commit()
    with Comfy(api_key="an-sdk-token-0123456789") as client:
        job = client.submit(submission(client, inverting(client.assets.from_bytes(picture(unique()), filename="t.png"))))
        assert list(job.events())[-1].status == "succeeded"
        output = job.refresh().outputs[0]
        assert output.to_bytes()
        assert curl(output.get_download_url().url).status == 401, "as the SDK says of self-hosted servers: normal auth applies"
        assert [item.id for item in client.list_jobs()] == [job.id]


# The asynchronous client


def test_async_jobs(bridge, target):
    async def body(client):
        job = await client.submit(submission(client, workflows.txt2img(steps=3, seed=502)), metadata={"a": "b"})
        events = [event async for event in job.events()]
        assert events[-1].status == "succeeded" and any(isinstance(event, comfy_sdk.Preview) for event in events)
        [output] = [event.output for event in events if isinstance(event, comfy_sdk.OutputReady)]
        assert len(await output.to_bytes()) == output.size_bytes
        assert (await job.refresh()).metadata == {"a": "b"}
        assert (await job.get_workflow()).format == "api"
        assert job.id in [item.id async for item in client.list_jobs()]
        done = await client.run(submission(client, waiting(100)))
        assert done.status == "succeeded"
        endless = await client.submit(submission(client, workflows.endless()))
        await endless.cancel()
        assert (await endless.wait(timeout=30)).status == "canceled"
        with pytest.raises(comfy_sdk.JobFailed):
            await client.run(submission(client, workflows.raising()))

    run_async(bridge, target, body)


def test_async_assets(bridge, target):
    async def body(client):
        data = picture(unique())
        asset = client.assets.from_bytes(data, filename="async.png")
        job = await client.run(submission(client, inverting(asset)))
        assert same(pixels(await job.outputs[0].to_bytes()), ImageOps.invert(pixels(data)))
        assert asset.created_new is True
        again = client.assets.from_bytes(data, filename="async.png")
        await again.commit()
        assert again.created_new is False
        await again.delete()

    run_async(bridge, target, body)
