"""The official SDK, unchanged: what goes wrong arrives as its typed errors, by both of its clients. And tokens."""

import io
import os

import comfy_low
import comfy_sdk
import pytest

import workflows
from http_client import curl
from pictures import is_inverse, picture
from sdk_clients import until_running

NO_HASH = "blake3:" + "0" * 64
UNKNOWN = "00000000-0000-4000-8000-000000000000"


def translated(caught):
    return comfy_sdk.exceptions.to_sdk_error(caught.value)


def test_workflows(client):
    with pytest.raises(comfy_sdk.WorkflowFormatUi):
        client.submit(client.workflows.from_json(workflows.ui_format()))
    with pytest.raises(comfy_low.errors.ApiError) as caught:
        client._low.post_jobs(workflows.ui_format())  # the SDK looks before it sends; the server must see it, too
    assert isinstance(translated(caught), comfy_sdk.WorkflowFormatUi)
    with pytest.raises(comfy_sdk.InvalidWorkflow) as caught:
        client.submit(client.workflows.from_json({"1": {"class_type": "NoSuchNode", "inputs": {}}}))
    assert caught.value.details["node_errors"]["1"][0]["reason"] == "missing_node_type"
    references = [{"__type": "core/ASSET", "info": {"id": identifier}} for identifier in (UNKNOWN, UNKNOWN[:-1] + "1", UNKNOWN)]
    graph = {str(number): node for number, reference in enumerate(references) for node in [workflows.inverting(reference)["1"]]}
    with pytest.raises(comfy_sdk.MissingAsset) as caught:
        client.submit(client.workflows.from_json(graph))
    assert caught.value.details["missing_ids"] == [UNKNOWN, UNKNOWN[:-1] + "1"]


def test_a_key_is_good_for_one_job(client):
    key = os.urandom(8).hex()
    with pytest.raises(comfy_sdk.InvalidWorkflow) as refused:
        client.submit(client.workflows.from_json({"1": {"class_type": "NoSuchNode", "inputs": {}}}), idempotency_key=key)
    assert refused.value.idempotency_key == key
    job = client.submit(client.workflows.from_json(workflows.plain()), idempotency_key=key)
    assert job.result().status == "succeeded", "a refused submission does not use its key up"
    with pytest.raises(comfy_sdk.IdempotencyKeyReuse) as caught:
        client.submit(client.workflows.from_json(workflows.plain()), idempotency_key=key)
    assert caught.value.idempotency_key == key


def test_a_job_that_fails(client):
    with pytest.raises(comfy_sdk.JobFailed) as caught:
        client.run(client.workflows.from_json(workflows.raising()))
    error = caught.value.error
    assert (caught.value.code, error.code, error.node_id, error.class_type) == ("node_execution_error", "node_execution_error", "2", "SimRaise")
    assert "roof is on fire" in error.message


def test_what_is_not_there(client):
    for ask in (client.jobs.get, client.assets.get, client.assets.delete):
        with pytest.raises(comfy_sdk.NotFound):
            ask(UNKNOWN)


def test_a_file_that_changes_while_it_is_sent(client, tmp_path):
    file = tmp_path / "changing.bin"
    file.write_bytes(os.urandom(64))
    asset = client.assets.from_file(file)
    expected = asset.hash
    file.write_bytes(os.urandom(64))
    with pytest.raises(comfy_sdk.HashMismatch) as caught:
        asset.commit()
    assert caught.value.details["expected"] == expected != caught.value.details["actual"]
    fresh = client.assets.from_file(file)
    fresh.commit()
    assert fresh.created_new is True and fresh.hash == caught.value.details["actual"], "what did not match was not kept"


def test_bytes_that_are_not_there(client):
    assert client._low.head_asset_by_hash(NO_HASH) is False
    with pytest.raises(comfy_low.errors.ApiError) as caught:
        client._low.asset_from_hash(NO_HASH)  # the SDK asks before; the bytes may go away in between
    assert isinstance(translated(caught), comfy_sdk.BlobNotFound)


def test_a_key_of_an_upload_is_good_for_one(client):
    key = os.urandom(8).hex()
    client._low.post_assets(io.BytesIO(os.urandom(9)), "text/plain", "a.txt", idempotency_key=key)
    with pytest.raises(comfy_low.errors.ApiError) as caught:
        client._low.post_assets(io.BytesIO(os.urandom(9)), "text/plain", "b.txt", idempotency_key=key)
    assert isinstance(translated(caught), comfy_sdk.IdempotencyKeyReuse)


def test_a_full_queue(start_bridge, connect, monkeypatch):
    # The SDK tries again for a minute when it is told to; here one answer is enough.
    monkeypatch.setattr(comfy_sdk.client, "_QUEUE_RETRY_BUDGET", 0)
    client = connect(start_bridge("--queue-limit", 1).url)
    running = client.submit(client.workflows.from_json(workflows.waiting(60_000)))
    until_running(running)
    with pytest.raises(comfy_sdk.QueueFull) as caught:
        for _ in range(3):  # one goes to ComfyUI to wait there, one waits in the bridge
            client.submit(client.workflows.from_json(workflows.waiting(60_000)))
    assert caught.value.http_status == 429 and caught.value.retry_after >= 1


TOKEN = "an-sdk-token-0123456789"


def test_without_a_token(start_bridge, connect):
    process = start_bridge("--token", TOKEN)
    for options in ({}, {"api_key": "wrong-token-0123456789"}):
        client = connect(process.url, **options)
        for ask in (
            lambda: client.submit(client.workflows.from_json(workflows.plain())), lambda: client.jobs.get(UNKNOWN), lambda: list(client.list_jobs()),
            lambda: client.assets.from_bytes(b"abc").commit(), lambda: client.assets.get(UNKNOWN), lambda: client.assets.delete(UNKNOWN),
        ):
            with pytest.raises(comfy_sdk.Unauthorized):
                ask()


def test_with_a_token(start_bridge, connect, tmp_path):
    client = connect(start_bridge("--token", TOKEN).url, api_key=TOKEN)
    data = picture()
    asset = client.assets.from_bytes(data, filename="t.png")
    job = client.submit(client.workflows.from_json(workflows.inverting(asset)), metadata={"a": "b"})
    events = list(job.events())
    assert events[-1].status == "succeeded"
    [ready] = [event.output for event in events if isinstance(event, comfy_sdk.OutputReady)]
    [output] = job.refresh().outputs
    assert is_inverse(output.to_bytes(), of=data)
    assert ready.to_bytes() == output.to_bytes() == output.to_file(tmp_path / "o.png").read_bytes()
    assert output.to_bytes(range=(1, 3)) == b"PNG"
    assert [item.id for item in client.list_jobs(metadata={"a": "b"})] == [job.id]
    assert job.get_workflow().format == "api"
    again = client.assets.from_bytes(data, filename="t.png")
    again.commit()
    assert again.created_new is False
    assert client.run(client.workflows.from_json(workflows.plain())).status == "succeeded"
    endless = client.submit(client.workflows.from_json(workflows.endless()))
    assert endless.cancel().wait(timeout=120).status == "canceled"
    url = output.get_download_url().url
    assert curl(url).status == 401, "as the SDK says of self-hosted servers: normal auth applies"
    assert curl("-H", f"Authorization: Bearer {TOKEN}", url).body == output.to_bytes()
    asset.delete()
