"""What the README promises, asked with the real curl."""

import base64
import json
import os
import struct
import subprocess
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

import workflows
from http_client import Stream, curl

PNG = b"\x89PNG\r\n\x1a\n"
UNKNOWN = "00000000-0000-4000-8000-000000000000"


def png_size(data):
    assert data.startswith(PNG)
    return struct.unpack(">II", data[16:24])


def post(contract, url, *arguments, data):
    """POST /run, checked against openapi.yaml."""
    return contract.check("POST", "/run", curl(*arguments, url, data=data))


def final_status(bridge, job_id):
    """Waits for the end of a job by its event stream."""
    return curl("-N", f"{bridge}/api/v2/jobs/{job_id}/events?previews=none").events()[-1].data["status"]


# ------------------------------------------------------------------------------------------------ POST /run

def test_run_blocks_and_answers_json(bridge, contract):
    reply = post(contract, f"{bridge}/run", data=workflows.plain())
    job = reply.json()
    assert (reply.status, reply.content_type, job["status"]) == (200, "application/json", "succeeded")
    assert reply.headers["comfy-job-id"] == job["id"]
    assert [output["type"] for output in job["outputs"]] == ["image"]
    assert job["progress"]["value"] == 1
    content = curl(f"{bridge}{job['outputs'][0]['url'].removeprefix(bridge)}")
    assert len(content.body) == job["outputs"][0]["size_bytes"]
    assert png_size(content.body) == (64, 64)


def test_run_takes_a_wrapped_workflow(bridge, contract):
    job = post(contract, f"{bridge}/run", data={"workflow": workflows.plain(), "metadata": {"who": "me"}}).json()
    assert (job["status"], job["metadata"]) == ("succeeded", {"who": "me"})


@pytest.mark.parametrize("accept", ["image/png", "image/*", "text/html;q=0.2, image/*;q=0.9"])
def test_run_answers_with_the_picture(bridge, contract, tmp_path, accept):
    target = tmp_path / "x.png"
    reply = post(contract, f"{bridge}/run", "-H", f"Accept: {accept}", "-o", str(target), data=workflows.plain(size=96))
    assert (reply.status, reply.content_type) == (200, "image/png")
    assert png_size(target.read_bytes()) == (96, 96)
    assert reply.headers["content-disposition"].startswith('inline; filename="e2e')
    assert reply.headers["comfy-job-id"]


def test_run_has_no_video(bridge, contract):
    reply = post(contract, f"{bridge}/run", "-H", "Accept: video/mp4", data=workflows.plain())
    contract.check_error(reply, 406, "not_acceptable")
    job = curl(f"{bridge}/api/v2/jobs/{reply.headers['comfy-job-id']}").json()
    assert job["status"] == "succeeded" and job["outputs"]


def test_run_puts_the_bytes_into_the_json(bridge, contract):
    job = post(contract, f"{bridge}/run?outputs=base64", data=workflows.plain()).json()
    data = base64.b64decode(job["outputs"][0]["data_base64"], validate=True)
    assert png_size(data) == (64, 64) and len(data) == job["outputs"][0]["size_bytes"]


def test_respond_async_answers_at_once(bridge, contract):
    reply = post(contract, f"{bridge}/run", "-H", "Prefer: respond-async", data=workflows.txt2img(steps=20, seed=1))
    job = reply.json()
    assert reply.status == 202 and job["status"] in ("queued", "running")
    assert reply.headers["location"].endswith(f"/api/v2/jobs/{job['id']}")
    assert final_status(bridge, job["id"]) == "succeeded"


@pytest.mark.parametrize("seconds", [0, 1])
def test_wait_blocks_no_longer_than_asked(bridge, contract, seconds):
    began = time.monotonic()
    reply = post(contract, f"{bridge}/run", "-H", f"Prefer: wait={seconds}", data=workflows.endless())
    assert reply.status == 202, "answered before the job is over, which it never is"
    assert time.monotonic() - began >= seconds
    curl("-X", "POST", f"{bridge}{reply.json()['urls']['cancel']}")
    assert final_status(bridge, reply.json()["id"]) == "canceled"


def test_idempotency_key(bridge, contract):
    key = str(uuid.uuid4())
    with ThreadPoolExecutor() as pool:
        callers = [pool.submit(post, contract, f"{bridge}/run", "-H", f"Idempotency-Key: {key}", data=workflows.plain()) for _ in range(4)]
        jobs = [caller.result().json() for caller in callers]
    jobs.append(post(contract, f"{bridge}/run", "-H", f"Idempotency-Key: {key}", data=workflows.plain()).json())
    assert all(job == jobs[0] and job["status"] == "succeeded" for job in jobs), "the same key and body are the same job, also at once"
    other = post(contract, f"{bridge}/run", "-H", f"Idempotency-Key: {key}", data=workflows.plain(size=65))
    contract.check_error(other, 422, "idempotency_key_reuse")


def test_cancel_by_somebody_else(bridge, contract):
    key = str(uuid.uuid4())
    first = post(contract, f"{bridge}/run", "-H", f"Idempotency-Key: {key}", "-H", "Prefer: respond-async", data=workflows.endless())
    with ThreadPoolExecutor() as pool:
        blocked = pool.submit(post, contract, f"{bridge}/run", "-H", f"Idempotency-Key: {key}", data=workflows.endless())
        curl("-X", "POST", f"{bridge}{first.json()['urls']['cancel']}")
        contract.check_error(blocked.result(), 409, "canceled")


def test_a_caller_that_is_cut_off_finds_its_job(bridge, contract):
    key = str(uuid.uuid4())
    arguments = ["-H", f"Idempotency-Key: {key}", "-H", "Accept: image/png"]
    workflow = workflows.txt2img(steps=60, seed=4711)
    cut = subprocess.run(
        ["curl", "-sS", "-m", "1", *arguments, "--data-binary", json.dumps(workflow), f"{bridge}/run"], capture_output=True, timeout=60)
    assert cut.returncode == 28, "curl's own time limit"
    reply = post(contract, f"{bridge}/run", *arguments, data=workflow)
    assert (reply.status, reply.content_type) == (200, "image/png")


def test_a_file_for_bytes_never_holds_json_without_an_error(bridge, contract, tmp_path):
    """The job goes on; its bytes are where the answer says."""
    result = tmp_path / "result.png"
    reply = post(contract, f"{bridge}/run", "-H", "Accept: image/png", "-H", "Prefer: wait=0", data=workflows.txt2img(steps=20, seed=815))
    error = contract.check_error(reply, 504, "wait_elapsed")
    assert int(reply.headers["retry-after"]) >= 0 and reply.headers["location"].endswith(error["details"]["job_id"])
    location = f"{bridge}{reply.headers['location']}"
    failed = subprocess.run(["curl", "-sS", "-f", "-H", "Accept: image/png", "-o", result, location], capture_output=True, timeout=60)
    assert failed.returncode == 22 and not result.exists()
    # As a script would do it: again until it is there, since 504 counts as passing.
    subprocess.run(["curl", "-sS", "-f", "--retry", "60", "-H", "Accept: image/png", "-o", result, location], check=True, timeout=120)
    assert result.read_bytes().startswith(PNG)
    reply = contract.check("GET", "/api/v2/jobs/{id}", curl("-H", "Accept: image/png", "-H", "Prefer: wait=30", location))
    assert reply.body == result.read_bytes()
    head = curl("-I", "-H", "Accept: image/png", location)
    assert head.status == 200 and int(head.headers["content-length"]) == len(reply.body)
    assert contract.check("GET", "/api/v2/jobs/{id}", curl("-H", "Accept: image/png", "-r", "0-7", location)).body == PNG
    assert contract.check("GET", "/api/v2/jobs/{id}", curl("-H", "Accept: image/png", "-H", f"If-None-Match: {reply.headers['etag']}", location)).status == 304
    contract.check_error(contract.check("GET", "/api/v2/jobs/{id}", curl("-H", "Accept: video/mp4", location)), 406, "not_acceptable")
    contract.validate("Job", contract.check("GET", "/api/v2/jobs/{id}", curl(location)).json())


def test_a_reused_key_names_what_it_made(bridge, contract, tmp_path):
    key = str(uuid.uuid4())
    submit = ["-H", f"Idempotency-Key: {key}", f"{bridge}/api/v2/jobs"]
    job = curl(*submit, data={"workflow": workflows.plain()}).json()
    error = contract.check_error(curl(*submit, data={"workflow": workflows.plain()}), 422, "idempotency_key_reuse")
    assert error["details"] == {"job_id": job["id"]}
    file = tmp_path / "a.bin"
    file.write_bytes(os.urandom(9))
    upload = ["-H", f"Idempotency-Key: {key}", "-F", f"file=@{file}", f"{bridge}/api/v2/assets"]
    asset = curl(*upload).json()
    error = contract.check_error(curl(*upload), 422, "idempotency_key_reuse")
    assert error["details"] == {"asset_id": asset["id"]}


def test_wait_answers_when_the_job_is_done(bridge, contract):
    reply = post(contract, f"{bridge}/run", "-H", "Prefer: wait=30", data=workflows.plain())
    assert (reply.status, reply.json()["status"]) == (200, "succeeded")


def test_timeout_stops_the_run(bridge, contract):
    reply = post(contract, f"{bridge}/run?timeout=0.5", data=workflows.endless())
    contract.check_error(reply, 504, "timed_out")
    job = curl(f"{bridge}/api/v2/jobs/{reply.headers['comfy-job-id']}").json()
    assert (job["status"], job["error"]["code"]) == ("failed", "timed_out")


def test_failing_node_is_named(bridge, contract):
    error = contract.check_error(post(contract, f"{bridge}/run", data=workflows.raising()), 500, "node_execution_error")
    assert (error["details"]["node_id"], error["details"]["class_type"]) == ("2", "SimRaise")
    assert "the roof is on fire" in error["message"]


def test_big_numbers_survive(bridge):
    seed = 18446744073709551615
    job = curl(f"{bridge}/run", data=workflows.txt2img(steps=1, seed=seed)).json()
    assert curl(f"{bridge}/api/v2/jobs/{job['id']}/workflow").json()["workflow"]["3"]["inputs"]["seed"] == seed


@pytest.mark.parametrize("on_disconnect, status", [("cancel", "canceled"), ("continue", "succeeded")])
def test_caller_who_goes_away(bridge, on_disconnect, status):
    workflow = workflows.endless() if on_disconnect == "cancel" else workflows.txt2img(steps=25, seed=2)
    with Stream("-H", "Accept: text/event-stream", f"{bridge}/run?previews=url&on_disconnect={on_disconnect}", data=workflow) as stream:
        events = iter(stream)
        job_id = next(events).data["id"]
        next(event for event in events if event.type == "preview")
    assert final_status(bridge, job_id) == status


# ------------------------------------------------------------------------------------------------ events

def test_stream_of_a_run(bridge, contract):
    reply = post(contract, f"{bridge}/run", "-N", "-H", "Accept: text/event-stream", data=workflows.txt2img(steps=8, seed=3))
    assert (reply.status, reply.content_type) == (200, "text/event-stream")
    assert "no-cache" in reply.headers["cache-control"] and reply.headers["x-accel-buffering"] == "no"
    events = reply.events()
    for event in events:
        contract.check_event(event)
    assert [event.type for event in events[:2]] == ["job", "status"]
    assert (events[-1].type, events[-1].data["status"]) == ("status", "succeeded")

    ids = [int(event.id) for event in events if event.id is not None]
    assert ids == list(range(ids[0], ids[0] + len(ids))), "after the snapshot no id is left out"
    values = [event.data["value"] for event in events if event.type == "progress"]
    assert values == sorted(values) and values[-1] == 1, "progress never falls and reaches 1"
    previews = [event.data["data_base64"] for event in events if event.type == "preview"]
    assert len(set(previews)) >= 2
    assert all(base64.b64decode(preview, validate=True)[:2] == b"\xff\xd8" for preview in previews)
    types = [event.type for event in events]
    assert max(index for index, type_ in enumerate(types) if type_ == "output") < len(types) - 1, "outputs come before the end"
    states = {(event.data["node_id"], event.data["state"]) for event in events if event.type == "node"}
    assert {("3", "finished"), ("9", "running"), ("9", "finished")} <= states


def test_previews_are_links_when_asked(bridge):
    with Stream("-H", "Accept: text/event-stream", f"{bridge}/run?previews=url", data=workflows.txt2img(steps=30, seed=4)) as stream:
        events = iter(stream)
        job_id = next(events).data["id"]
        preview = next(event for event in events if event.type == "preview")
        picture = curl(f"{bridge}{preview.data['url'].removeprefix(bridge)}")
        assert (picture.status, picture.content_type) == (200, preview.data["content_type"])
        newest = curl(f"{bridge}/api/v2/jobs/{job_id}/preview")
        assert newest.status == 200 and newest.body[:2] == b"\xff\xd8" and newest.headers["etag"]
        for event in events:
            last = event
    assert last.data["status"] == "succeeded"


def test_replay_with_last_event_id(bridge, contract):
    live = curl("-N", "-H", "Accept: text/event-stream", f"{bridge}/run", data=workflows.txt2img(steps=5, seed=5)).events()
    url = f"{bridge}/api/v2/jobs/{live[0].data['id']}/events"
    everything = [event for event in curl("-N", "-H", "Last-Event-ID: 0", url).events() if event.id]
    ids = [int(event.id) for event in everything]
    assert ids == list(range(1, len(ids) + 1)) and len(ids) > 6
    covered, *after = [event for event in live if event.id]
    assert after == everything[int(covered.id):], "the live stream after its snapshot and the replay tell the same"

    middle = ids[len(ids) // 2]
    by_header = [event for event in curl("-N", "-H", f"Last-Event-ID: {middle}", url).events() if event.id]
    by_query = [event for event in curl("-N", f"{url}?last_event_id={middle}").events() if event.id]
    assert by_header == by_query == everything[middle:]

    over = contract.check("GET", "/api/v2/jobs/{id}/events", curl("-N", "-H", f"Last-Event-ID: {ids[-1]}", url))
    assert (over.status, over.body) == (204, b"")


def test_gap_is_told(bridge, contract):
    job = curl(f"{bridge}/run", data=workflows.plain()).json()
    events = curl("-N", "-H", "Last-Event-ID: 999999", f"{bridge}{job['urls']['events']}").events()
    for event in events:
        contract.check_event(event)
    assert events[0].type == "reset"
    assert "output" in [event.type for event in events] and events[-1].data["status"] == "succeeded"


def test_finished_job_is_told_as_a_snapshot(bridge):
    job = curl(f"{bridge}/run", data=workflows.plain()).json()
    events = curl("-N", f"{bridge}{job['urls']['events']}").events()
    assert [event.data for event in events if event.type == "output"] == job["outputs"]
    assert events[-1].data["status"] == "succeeded" and events[-1].id
    again = curl("-N", "-H", f"Last-Event-ID: {events[-1].id}", f"{bridge}{job['urls']['events']}")
    assert again.status == 204


def test_several_viewers_see_the_same(bridge):
    job = curl(f"{bridge}/api/v2/jobs", data={"workflow": workflows.txt2img(steps=25, seed=6)}).json()
    streams = [Stream("-H", "Last-Event-ID: 0", f"{bridge}{job['urls']['events']}") for _ in range(3)]
    try:
        seen = [[event for event in stream if event.id] for stream in streams]
    finally:
        for stream in streams:
            stream.hang_up()
    assert seen[0] == seen[1] == seen[2]
    assert seen[0][-1].data["status"] == "succeeded"


def test_cancel(bridge, contract):
    with Stream("-H", "Accept: text/event-stream", f"{bridge}/run", data=workflows.endless()) as stream:
        events = iter(stream)
        job = next(events).data
        next(event for event in events if event.type == "preview")
        reply = contract.check("POST", "/api/v2/jobs/{id}/cancel", curl("-X", "POST", f"{bridge}{job['urls']['cancel']}"))
        assert reply.json()["status"] in ("canceling", "canceled")
        statuses = [event.data["status"] for event in events if event.type == "status"]
    assert statuses[-1] == "canceled"


# ------------------------------------------------------------------------------------------------ assets

@pytest.fixture(scope="module")
def asset(bridge):
    """URL and bytes of an output."""
    output = curl(f"{bridge}/run", data=workflows.plain(size=128)).json()["outputs"][0]
    url = f"{bridge}{output['url'].removeprefix(bridge)}"
    return url, curl(url)


def test_asset_whole(asset, contract):
    url, whole = asset
    contract.check("GET", "/api/v2/assets/{id}/content", whole)
    assert (whole.status, whole.content_type) == (200, "image/png")
    assert whole.headers["accept-ranges"] == "bytes" and whole.headers["x-content-type-options"] == "nosniff"
    assert whole.headers["content-disposition"].startswith('inline; filename="')
    assert int(whole.headers["content-length"]) == len(whole.body)


@pytest.mark.parametrize("range_, part", [("0-99", slice(0, 100)), ("100-", slice(100, None)), ("-20", slice(-20, None)), ("0-99999999", slice(0, None))])
def test_asset_range(asset, contract, range_, part):
    url, whole = asset
    reply = contract.check("GET", "/api/v2/assets/{id}/content", curl("-r", range_, url))
    expected = whole.body[part]
    assert (reply.status, reply.body) == (206, expected)
    first = part.start if part.start >= 0 else len(whole.body) + part.start
    assert reply.headers["content-range"] == f"bytes {first}-{first + len(expected) - 1}/{len(whole.body)}"


def test_asset_range_beyond_the_end(asset, contract):
    url, whole = asset
    reply = contract.check("GET", "/api/v2/assets/{id}/content", curl("-r", "99999999-", url))
    contract.check_error(reply, 416, "range_not_satisfiable")
    assert reply.headers["content-range"] == f"bytes */{len(whole.body)}"


def test_asset_head(asset):
    url, whole = asset
    reply = curl("-I", url)
    assert reply.status == 200 and int(reply.headers["content-length"]) == len(whole.body)
    assert reply.headers["etag"] == whole.headers["etag"]


def test_asset_not_modified(asset, contract):
    url, whole = asset
    etag = whole.headers["etag"]
    reply = contract.check("GET", "/api/v2/assets/{id}/content", curl("-H", f"If-None-Match: {etag}", url))
    assert (reply.status, reply.body) == (304, b"")
    assert curl("-H", 'If-None-Match: "other"', url).status == 200


def test_asset_if_range(asset):
    url, whole = asset
    assert curl("-r", "0-9", "-H", f"If-Range: {whole.headers['etag']}", url).status == 206
    changed = curl("-r", "0-9", "-H", 'If-Range: "other"', url)
    assert (changed.status, changed.body) == (200, whole.body)


# ------------------------------------------------------------------------------------------------ kinds of output

def test_every_kind_of_output_comes_through(bridge, contract):
    job = post(contract, f"{bridge}/run", data=workflows.every_kind()).json()
    outputs = {output["name"]: output for output in job["outputs"]}
    kinds = {name: output["type"] for name, output in outputs.items() if output["type"] != "text"}
    assert kinds == {"still.png": "image", "drawing.svg": "image", "clip.mp4": "video", "sound.flac": "audio", "model.glb": "file", "state.latent": "latent"}
    assert [output["text"] for output in outputs.values() if output["type"] == "text"] == ["hello <b>world</b>"]
    assert job["other_outputs"] == {"1": {"score": [0.25]}}
    for output in outputs.values():
        content = curl(output["url"])
        assert (content.status, len(content.body)) == (200, output["size_bytes"]), output


def test_what_a_browser_would_run_is_an_attachment(bridge):
    job = curl(f"{bridge}/run", data=workflows.every_kind()).json()
    drawing = curl("-I", next(output["url"] for output in job["outputs"] if output["name"] == "drawing.svg"))
    assert drawing.headers["content-disposition"].startswith("attachment;")
    assert drawing.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("accept, content_type", [("video/*", "video/mp4"), ("audio/*", "audio/"), ("text/plain", "text/plain")])
def test_run_answers_with_other_kinds(bridge, contract, accept, content_type):
    reply = curl("-H", f"Accept: {accept}", f"{bridge}/run", data=workflows.every_kind())
    assert reply.status == 200 and reply.content_type.startswith(content_type) and reply.body


def test_results_over_the_socket_are_outputs(bridge, contract):
    job = post(contract, f"{bridge}/run", data=workflows.over_the_socket()).json()
    assert [(output["node_id"], output["type"]) for output in job["outputs"]] == [("2", "image")] * 2
    for output in job["outputs"]:
        content = curl(output["url"])
        assert png_size(content.body) == (48, 32) and len(content.body) == output["size_bytes"]
        assert curl("-r", "0-7", output["url"]).body == PNG


def test_partial_workflow(bridge, contract):
    refused = post(contract, f"{bridge}/run", data=workflows.partly_valid())
    error = contract.check_error(refused, 422, "invalid_workflow")
    assert error["details"]["node_errors"]["4"][0]["field"] == "upscale_method"
    allowed = post(contract, f"{bridge}/run?partial=allow", "-H", "Accept: text/event-stream", data=workflows.partly_valid()).events()
    assert allowed[-1].data["status"] == "succeeded"
    assert [event.data["node_id"] for event in allowed if event.type == "output"] == ["3"]
    told = curl("-N", "-H", "Last-Event-ID: 0", f"{bridge}{allowed[0].data['urls']['events']}").events()
    assert any("upscale_method" in event.data["message"] for event in told if event.type == "log")


# ------------------------------------------------------------------------------------------------ bad input

def without(node, key):
    workflow = workflows.plain()
    del workflow[node][key]
    return workflow


def with_(node, key, value):
    workflow = workflows.plain()
    workflow[node][key] = value
    return workflow


BAD_BODIES = {
    "empty body": (b"", 400, "invalid_json", ""),
    "no JSON": (b"{", 400, "invalid_json", ""),
    "garbage after the JSON": (b"{} {}", 400, "invalid_json", ""),
    "no UTF-8": (b'{"1": "\xff\xfe"}', 400, "invalid_json", ""),
    "a list": (b"[]", 422, "invalid_workflow", ""),
    "a number": (b"7", 422, "invalid_workflow", ""),
    "null": (b"null", 422, "invalid_workflow", ""),
    "empty graph": (b"{}", 422, "invalid_workflow", ""),
    "editor's format": (workflows.ui_format(), 422, "workflow_format_ui", "Export (API)"),
    "editor's format, wrapped": ({"workflow": workflows.ui_format()}, 422, "workflow_format_ui", "Export (API)"),
    "node is no object": ({"1": 5}, 422, "invalid_workflow", "1"),
    "no class_type": (without("2", "class_type"), 422, "invalid_workflow", "class_type"),
    "class_type is a number": (with_("2", "class_type", 5), 422, "invalid_workflow", "class_type"),
    "no inputs": (without("2", "inputs"), 422, "invalid_workflow", "inputs"),
    "inputs is a list": (with_("2", "inputs", []), 422, "invalid_workflow", "inputs"),
    "unknown class": (with_("2", "class_type", "NoSuchNode"), 422, "invalid_workflow", "NoSuchNode"),
    "missing input": (with_("2", "inputs", {}), 422, "invalid_workflow", "image"),
    "no output node": ({"1": workflows.plain()["1"]}, 422, "invalid_workflow", "output"),
    "extra_data is a list": ({"workflow": workflows.plain(), "extra_data": []}, 422, "invalid_request", "extra_data"),
    "extra_data with a strange member": ({"workflow": workflows.plain(), "extra_data": {"client_id": "x"}}, 422, "invalid_request", "client_id"),
    "unknown member": ({"workflow": workflows.plain(), "webhook_url": "http://x/"}, 422, "invalid_request", "webhook_url"),
    "body for ComfyUI itself": ({"prompt": workflows.plain()}, 422, "invalid_request", "prompt"),
    "metadata is a number": ({"workflow": workflows.plain(), "metadata": 5}, 422, "invalid_request", "metadata"),
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_bad_body(bridge, contract, name):
    data, status, code, word = BAD_BODIES[name]
    error = contract.check_error(post(contract, f"{bridge}/run", data=data), status, code)
    assert word in json.dumps(error, ensure_ascii=False)


def test_errors_of_a_workflow_name_nodes(bridge, contract):
    workflow = workflows.stock_txt2img()
    del workflow["5"]["inputs"]["width"]
    workflow["8"]["inputs"]["vae"] = ["77", 0]
    error = contract.check_error(post(contract, f"{bridge}/run", data=workflow), 422, "invalid_workflow")
    nodes = error["details"]["node_errors"]
    assert (nodes["5"][0]["field"], nodes["5"][0]["class_type"]) == ("width", "EmptyLatentImage")
    assert (nodes["8"][0]["field"], nodes["8"][0]["reason"]) == ("vae", "bad_linked_input")


def test_refusal_of_comfyui_names_nodes(bridge, contract):
    """What only ComfyUI can tell: the bridge learns it when it hands the job over."""
    workflow = workflows.stock_txt2img()
    workflow["4"]["inputs"]["ckpt_name"] = "missing.safetensors"
    error = contract.check_error(post(contract, f"{bridge}/run", data=workflow), 422, "invalid_workflow")
    fault = error["details"]["node_errors"]["4"][0]
    assert (fault["field"], fault["reason"], fault["class_type"]) == ("ckpt_name", "value_not_in_list", "CheckpointLoaderSimple")


BAD_PARAMETERS = {
    "Prefer: wait=soon": ("POST", "/run", ["-H", "Prefer: wait=soon"]),
    "Prefer: wait=-1": ("POST", "/run", ["-H", "Prefer: wait=-1"]),
    "outputs=xml": ("POST", "/run?outputs=xml", []),
    "timeout=never": ("POST", "/run?timeout=never", []),
    "timeout=0": ("POST", "/run?timeout=0", []),
    "on_disconnect=panic": ("POST", "/run?on_disconnect=panic", []),
    "partial=maybe": ("POST", "/run?partial=maybe", []),
    "previews=gif": ("POST", "/run?previews=gif", ["-H", "Accept: text/event-stream"]),
}


@pytest.mark.parametrize("header", ["Prefer: ;", "Prefer: =", "Prefer: ,;,=", "Prefer: ;wait=5"])
def test_preference_that_is_none_is_ignored(bridge, contract, header):
    assert post(contract, f"{bridge}/run", "-H", header, data=workflows.plain()).status == 200


@pytest.mark.parametrize("name", BAD_PARAMETERS)
def test_bad_parameter_of_run(bridge, contract, name):
    _, path, arguments = BAD_PARAMETERS[name]
    reply = post(contract, f"{bridge}{path}", *arguments, data=workflows.plain())
    error = contract.check_error(reply, 400, "invalid_parameter")
    assert error["details"]["parameter"].lower() == name.split("=")[0].split(":")[0].lower()


@pytest.mark.parametrize("arguments, query", [(["-H", "Last-Event-ID: first"], ""), (["-H", "Last-Event-ID: -1"], ""), ([], "?last_event_id=x"), ([], "?previews=gif"), ([], "?native=maybe")])
def test_bad_parameter_of_events(bridge, contract, arguments, query):
    job = curl(f"{bridge}/run", data=workflows.plain()).json()
    reply = contract.check("GET", "/api/v2/jobs/{id}/events", curl("-N", *arguments, f"{bridge}{job['urls']['events']}{query}"))
    contract.check_error(reply, 400, "invalid_parameter")


@pytest.mark.parametrize("range_", ["bytes=abc", "bytes=5-2"])
def test_bad_range(asset, contract, range_):
    reply = contract.check("GET", "/api/v2/assets/{id}/content", curl("-H", f"Range: {range_}", asset[0]))
    contract.check_error(reply, 400, "invalid_parameter")


@pytest.mark.parametrize("method, path", [
    ("GET", "/nothing/here"), ("POST", "/api/v2/nothing"), ("GET", f"/api/v2/jobs/{UNKNOWN}"), ("GET", "/api/v2/jobs/not-an-id"), ("GET", f"/api/v2/jobs/{UNKNOWN}/workflow"),
    ("GET", f"/api/v2/jobs/{UNKNOWN}/events"), ("GET", f"/api/v2/jobs/{UNKNOWN}/preview"), ("GET", f"/api/v2/jobs/{UNKNOWN}/previews/1"), ("POST", f"/api/v2/jobs/{UNKNOWN}/cancel"),
    ("GET", f"/api/v2/assets/{UNKNOWN}"), ("GET", f"/api/v2/assets/{UNKNOWN}/content"),
])
def test_unknown_things(bridge, contract, method, path):
    contract.check_error(curl("-X", method, f"{bridge}{path}"), 404, "not_found")


def test_no_preview_yet(bridge, contract):
    job = curl(f"{bridge}/run", data=workflows.plain()).json()
    contract.check_error(curl(f"{bridge}/api/v2/jobs/{job['id']}/preview"), 404, "not_found")
    contract.check_error(curl(f"{bridge}/api/v2/jobs/{job['id']}/previews/99"), 404, "not_found")
    contract.check_error(curl(f"{bridge}/api/v2/jobs/{job['id']}/previews/x"), 404, "not_found")


def test_get_run_says_how(bridge, contract):
    reply = curl(f"{bridge}/run")
    contract.check_error(reply, 405, "method_not_allowed")
    assert "POST" in reply.headers["allow"]


@pytest.mark.parametrize("arguments", [[], ["-H", "Transfer-Encoding: chunked"]], ids=["length", "chunked"])
def test_body_too_large(bridge, contract, arguments):
    workflow = workflows.plain(prefix="x" * 1_200_000)
    contract.check_error(post(contract, f"{bridge}/run", *arguments, data=workflow), 413, "payload_too_large")


# ------------------------------------------------------------------------------------------------ limits, and the end

def test_full_queue(start_bridge, contract):
    """One job runs and one waits inside ComfyUI; the queue of the bridge holds one more."""
    url = start_bridge("--queue-limit", 1).url
    assert curl(f"{url}/run", data=workflows.plain()).status == 200
    replies = [contract.check("POST", "/api/v2/jobs", curl(f"{url}/api/v2/jobs", data={"workflow": workflows.endless()})) for _ in range(6)]
    refused = [reply for reply in replies if reply.status != 201]
    assert 1 <= len(refused) <= 4
    for reply in refused:
        contract.check_error(reply, 429, "queue_full")
        assert int(reply.headers["retry-after"]) >= 1
    for reply in replies:
        if reply.status == 201:
            curl("-X", "POST", f"{url}{reply.json()['urls']['cancel']}")
            assert final_status(url, reply.json()["id"]) == "canceled"


def test_heartbeat(start_bridge):
    url = start_bridge("--heartbeat", 1).url
    text = curl("-N", "-H", "Accept: text/event-stream", f"{url}/run?previews=none&timeout=2.5", data=workflows.endless()).body.decode()
    assert "\n: " in text and text.startswith("retry: ")


def test_end_of_the_bridge_ends_its_streams(start_bridge):
    process = start_bridge()
    with Stream("-H", "Accept: text/event-stream", f"{process.url}/run?previews=none", data=workflows.endless()) as stream:
        events = iter(stream)
        next(event for event in events if event.type == "progress")
        process.stop()
        list(events)
        assert stream.process.wait(timeout=60) == 0, "the stream ends whole, not cut off"


# ------------------------------------------------------------------------------------------------ without ComfyUI

def test_comfyui_is_down(lonely_bridge, contract):
    assert contract.check("GET", "/api/v2/health", curl(f"{lonely_bridge}/api/v2/health")).status == 200
    ready = contract.check("GET", "/readyz", curl(f"{lonely_bridge}/readyz"))
    assert (ready.status, ready.json()["ready"]) == (503, False)
    reply = post(contract, f"{lonely_bridge}/run", data=workflows.plain())
    contract.check_error(reply, 503, "upstream_unreachable")
    assert int(reply.headers["retry-after"]) >= 1
    # Nobody blocks for these, so they are kept.
    job = contract.check("POST", "/api/v2/jobs", curl(f"{lonely_bridge}/api/v2/jobs", data={"workflow": workflows.plain()}))
    assert (job.status, job.json()["status"]) == (201, "queued")
    reply = post(contract, f"{lonely_bridge}/run", "-H", "Prefer: respond-async", data=workflows.plain())
    assert (reply.status, reply.json()["queue_position"]) == (202, 1)
    why = curl(f"{lonely_bridge}/api/v2/jobs/{job.json()['id']}/why").json()
    assert why["reason"] == "comfyui_unreachable" and "runs when it is back" in why["message"]


@pytest.mark.parametrize("name, size, count, words", [("a", 0, 40_000, "means nothing here"), ("a", 8000, 2000, "means nothing here"), ("tags", 0, 40_000, "more than 100 parts")])
def test_forms_of_too_many_parts(bridge, contract, name, size, count, words):
    """The answer comes at the first part that is one too many; curl stops sending then."""
    part = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name.encode(), b"x" * size)
    reply = curl("-H", "Content-Type: multipart/form-data; boundary=b", f"{bridge}/api/v2/assets", data=part * count + b"--b--\r\n")
    contract.check_error(contract.check("POST", "/api/v2/assets", reply), 422, "invalid_request")
    assert words in reply.json()["error"]["message"]
