"""The official SDK, unchanged: files up, kept once, used by workflows, and gone again, by both of its clients."""

import io
import os
from datetime import UTC, datetime, timedelta

import comfy_sdk
import pytest
from comfy_low import ComfyLow

import workflows
from http_client import curl
from pictures import is_inverse, picture
from proxies import RecordingProxy
from sdk_clients import until_running


class Unsized:
    """A file that can only be read forward, so that nobody knows its length before the end."""

    def __init__(self, data):
        self.read = io.BytesIO(data).read


def inverted(client, image):
    """The picture that comes out of a job that inverts `image`."""
    return client.run(client.workflows.from_json(workflows.inverting(image))).outputs[0].to_bytes()


def test_bytes_go_over_the_wire_once(bridge, connect, tmp_path):
    data = picture()
    file = tmp_path / "Ein schönes Bild.png"
    file.write_bytes(data)
    with RecordingProxy(bridge) as proxy:
        client = connect(proxy.url)
        first = client.assets.from_file(file)
        assert (first.id, first.created_new) == (None, None), "nothing is sent before it is needed"
        assert client.assets.get(first.commit()).file_path == "Ein schönes Bild.png"
        assert first.created_new is True and first.job_id is None
        assert timedelta(days=6) < first.expires_at - datetime.now(UTC) < timedelta(days=8)
        assert first.commit() == first.id, "committing twice is once"
        for again in (
            client.assets.from_file(str(file)), client.assets.from_bytes(data, filename="b.png"), client.assets.from_stream(io.BytesIO(data), filename="c.png"),
        ):
            again.commit()
            assert again.created_new is False and again.hash == first.hash
        assert again.id != first.id, "another name is another asset over the same bytes"
        assert curl(first.get_download_url().url).body == data
        assert proxy.sent().count(data) == 1
        assert proxy.sent().count(b"POST /api/v2/assets HTTP") == 1


def test_from_url(client):
    """The SDK fetches the URL itself and takes what it finds for an upload."""
    output = client.run(client.workflows.from_json(workflows.plain(color=int.from_bytes(os.urandom(3))))).outputs[0]
    asset = client.assets.from_url(output.get_download_url().url)
    assert is_inverse(inverted(client, asset), of=output.to_bytes())
    assert client.assets.get(asset.id).hash == asset.hash


@pytest.mark.parametrize("name", ["photo.png", "Straße mit Bäumen.png", "日本 😀.png", "per%20cent;semi colon.png", "folder/in folder/photo.png"])
def test_an_upload_is_an_input_under_any_name(client, name):
    data = picture()
    asset = client.assets.from_bytes(data, filename=name)
    workflow = client.workflows.from_json(workflows.inverting("overwritten"))
    workflow.set_input("1", "image", asset)
    job = client.run(workflow)
    assert is_inverse(job.outputs[0].to_bytes(), of=data)
    assert asset.file_path == client.assets.get(asset.id).file_path == name
    reference = {"__type": "core/ASSET", "info": {"id": asset.id, "hash": asset.hash, "file_path": name}}
    assert asset.as_reference() == reference
    assert job.get_workflow().graph["1"]["inputs"]["image"] == reference, "the workflow is kept as it came"


def test_two_pictures_of_one_name_are_not_mixed_up(client):
    pictures = [picture(), picture()]
    assets = [client.assets.from_bytes(data, filename="same name.png") for data in pictures]
    graph = workflows.inverting(assets[0])
    graph |= {str(int(number) + 10): node for number, node in workflows.inverting(assets[1]).items()}
    graph["12"]["inputs"]["image"], graph["13"]["inputs"]["images"] = ["11", 0], ["12", 0]
    job = client.run(client.workflows.from_json(graph))
    for node, data in zip(("3", "13"), pictures, strict=True):
        [output] = job.get_outputs(node)
        assert is_inverse(output.to_bytes(), of=data)
    assert assets[0].id != assets[1].id


def test_an_upload_is_used_by_its_plain_name(client):
    data = picture()
    name = f"named-{os.urandom(4).hex()}.png"
    client.assets.from_bytes(data, filename=name).commit()
    assert is_inverse(inverted(client, name), of=data)


def test_an_output_is_the_next_input(client):
    first = client.run(client.workflows.from_json(workflows.txt2img(steps=1, seed=int.from_bytes(os.urandom(6)))))
    [output] = first.outputs
    asset = client.assets.get(output.id)
    assert (asset.job_id, asset.file_path) == (first.id, output.name)
    assert curl(asset.get_download_url().url).body == output.to_bytes()
    assert is_inverse(inverted(client, asset), of=output.to_bytes())
    with pytest.raises(comfy_sdk.ComfyError) as caught:
        asset.delete()
    assert caught.value.code == "asset_in_use", "it belongs to a job that is kept"


def test_delete(client):
    data = picture()
    asset = client.assets.from_bytes(data, filename="gone.png")
    with pytest.raises(RuntimeError):
        asset.delete()
    reference = asset.as_reference()
    identifier = asset.id
    asset.delete()
    assert asset.id is None
    for gone in (client.assets.get, client.assets.delete):
        with pytest.raises(comfy_sdk.NotFound):
            gone(identifier)
    with pytest.raises(comfy_sdk.MissingAsset) as caught:
        client.submit(client.workflows.from_json(workflows.inverting(reference)))
    assert caught.value.details["missing_ids"] == [identifier]
    again = client.assets.from_bytes(data, filename="gone.png")
    assert again.commit() != identifier and again.created_new is True, "its bytes are gone, too, and sent again"
    client.assets.delete(again.id)


def test_an_input_of_a_waiting_job_stays(client):
    data = picture()
    asset = client.assets.from_bytes(data, filename="needed.png")
    running = client.submit(client.workflows.from_json(workflows.endless()))
    until_running(running)
    waiting = client.submit(client.workflows.from_json(workflows.inverting(asset)))
    with pytest.raises(comfy_sdk.ComfyError) as caught:
        client.assets.delete(asset.id)
    assert (caught.value.http_status, caught.value.code) == (409, "asset_in_use")
    running.cancel()
    assert is_inverse(waiting.result().outputs[0].to_bytes(), of=data)
    client.assets.delete(asset.id)


def test_nothing_is_a_file_too(client):
    asset = client.assets.from_bytes(b"", filename="empty.txt", content_type="text/plain")
    asset.commit()
    reply = curl(asset.get_download_url().url)
    assert (reply.status, reply.content_type, reply.body) == (200, "text/plain", b"")


def test_a_file_of_unknown_length(bridge):
    """Only the SDK's lower layer sends one: chunked, without a Content-Length."""
    data = os.urandom(300_000)
    with RecordingProxy(bridge) as proxy, ComfyLow(proxy.url) as low:
        asset = low.post_assets(Unsized(data), "application/x-test", "unsized.bin", tags=["one", "two"])
        assert (asset.size_bytes, asset.content_type, asset.created_new) == (len(data), "application/x-test", True)
        assert b"transfer-encoding: chunked" in proxy.heads()[0].encode().lower()
        with low.get_asset_content(asset.id) as reply:
            assert reply.read() == data
