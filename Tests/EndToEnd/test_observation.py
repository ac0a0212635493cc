"""What operators see: /metrics as Prometheus' own parser reads it, log lines as JSON, why a job waits, and where the time of a call went."""

import json
import re
import socket
import time
from datetime import datetime

import pytest
from prometheus_client.parser import text_string_to_metric_families

import workflows
from contract import ROOT
from http_client import Stream, curl
from processes import Process

TOKEN = "a-token-that-no-log-may-have"
API_KEY = "comfyui-key-that-no-log-may-have"
WITHIN = 60


def read(url, *arguments):
    """The metrics by name, and their samples by name and labels."""
    reply = curl(*arguments, f"{url}/metrics")
    assert (reply.status, reply.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    families = {family.name: family for family in text_string_to_metric_families(reply.body.decode())}
    samples = {}
    for family in families.values():
        assert family.documentation and family.type in ("counter", "gauge", "histogram"), family
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in samples, key
            samples[key] = sample.value
    return families, lambda name, **labels: samples.get((f"comfy_bridge_{name}", frozenset(labels.items())))


def wait_for(condition):
    deadline = time.monotonic() + WITHIN
    while not condition():
        assert time.monotonic() < deadline
    return True


def log_of(process):
    with open(process.log.name, encoding="utf-8") as log:
        return log.read()


def test_metrics_are_what_prometheus_reads(start_bridge, simulator, tmp_path):
    url = start_bridge().url
    for number in range(3):
        assert curl(f"{url}/run", data=workflows.plain(color=number)).status == 200
    assert curl(f"{url}/run", data=workflows.raising()).status == 500
    run = curl("-H", "Accept: text/event-stream", f"{url}/run", data=workflows.txt2img(steps=5, seed=901)).events()
    file = tmp_path / "upload.bin"
    file.write_bytes(bytes(12_345))
    assert curl("-F", f"file=@{file}", f"{url}/api/v2/assets").status == 201
    assert curl(f"{url}/api/v2/nothing").status == 404
    with Stream(f"{url}/run?previews=none", "-H", "Accept: text/event-stream", data=workflows.endless()) as stream:
        next(event for event in stream if event.type == "status" and event.data["status"] == "running")
        _, value = read(url)
        assert value("jobs", status="running") == 1
        assert value("viewers") == 1
        assert value("comfyui_open_prompts", url=simulator.url) == 1
        assert value("http_connections") == 2
    wait_for(lambda: read(url)[1]("jobs_ended_total", status="canceled", code="canceled") == 1)

    families, value = read(url)
    assert value("jobs_submitted_total") == 6
    assert value("jobs_ended_total", status="succeeded", code="") == 4
    assert value("jobs_ended_total", status="failed", code="node_execution_error") == 1
    assert value("jobs", status="running") == 0 and value("queue_depth") == 0 and value("viewers") == 0
    assert value("comfyui_connected", url=simulator.url) == 1 and value("comfyui_reconnects_total", url=simulator.url) == 0
    for name in ("job_queue_seconds", "job_execution_seconds"):
        assert value(f"{name}_count") == value(f"{name}_bucket", le="+Inf") == 6
    assert value("overhead_seconds_count", phase="hand_over") == 6
    previews = [event.data for event in run if event.type == "preview"]
    assert value("previews_total") >= len(previews) == 5
    assert value("received_bytes_total", kind="preview") > 0
    assert value("received_bytes_total", kind="upload") == 12_345
    assert value("sent_bytes_total", kind="events") > sum(len(preview["data_base64"]) for preview in previews)
    assert value("http_requests_total", route="/run", method="POST", status="200") == 5
    assert value("http_requests_total", route="other", method="GET", status="404") == 1
    assert value("build_info", version=curl(f"{url}/api/v2/health").json()["version"]) == 1
    samples = {sample.name: sample.value for family in families.values() for sample in family.samples}
    assert abs(samples["process_start_time_seconds"] - time.time()) < 300
    assert samples["process_open_fds"] < samples["process_max_fds"] and samples["process_resident_memory_bytes"] > 1e6


def test_readme_lists_the_metrics(bridge):
    table = (ROOT / "README.md").read_text(encoding="utf-8").split("**Metrics.**")[1].split("**The log**")[0]
    documented = set(re.findall(r"`((?:comfy_bridge|process)_\w+)`", table))
    served = set(re.findall(r"^# TYPE (\S+)", curl(f"{bridge}/metrics").body.decode(), re.MULTILINE))
    assert documented <= served
    assert {name for name in served if name.startswith("comfy_bridge")} <= documented


def test_log_lines_are_json(start_bridge, simulator):
    process = start_bridge("--log-format", "json", "--log-level", "debug")
    ids = [curl(f"{process.url}/run", data=workflow).headers["comfy-job-id"] for workflow in (workflows.plain(), workflows.raising())]
    process.stop()
    entries = [json.loads(line) for line in log_of(process).splitlines()]
    for entry in entries:
        assert list(entry)[:4] == ["time", "level", "label", "message"], entry
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry["time"]) and datetime.fromisoformat(entry["time"])
        assert entry["level"] in ("debug", "info", "notice", "warning", "error")
        assert ("job.id" in entry) <= ("prompt.id" in entry), entry
    ended = {entry["job.id"]: entry for entry in entries if entry["message"] == "job ended"}
    assert list(ended) == ids and {entry["level"] for entry in ended.values()} == {"info"}
    good, bad = (ended[id_] for id_ in ids)
    assert (good["job.status"], good["error.code"], good["outputs"], good["comfy.url"]) == ("succeeded", "none", 1, simulator.url)
    assert (bad["job.status"], bad["error.code"], bad["outputs"]) == ("failed", "node_execution_error", 0)
    assert all(isinstance(entry[name], int) for entry in ended.values() for name in ("queue_ms", "execution_ms"))
    requests = [entry for entry in entries if entry["message"] == "answered a request"]
    assert [(entry["http.path"], entry["http.status"]) for entry in requests if entry["http.path"] == "/run"] == [("/run", 200), ("/run", 500)]
    assert {entry["level"] for entry in requests} == {"debug"}


@pytest.mark.simulated("is about it")
def test_log_of_the_simulator_is_json(binary):
    process = Process(binary, "simulate", "--port", 0, "--log-format", "json", "--log-level", "trace")
    curl(f"{process.url}/queue")
    process.stop()
    lines = log_of(process).splitlines()
    assert lines and all(json.loads(line)["label"] == "comfy-simulator" for line in lines)


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_secret_is_logged(start_bridge, log_format):
    process = start_bridge("--log-format", log_format, "--log-level", "trace", "--token", TOKEN)
    authorization = ["-H", f"Authorization: Bearer {TOKEN}"]
    body = {"workflow": workflows.txt2img(steps=2, seed=902), "extra_data": {"api_key_comfy_org": API_KEY}}
    job = curl(*authorization, f"{process.url}/run?signed_events=1", data=body).json()
    assert job["status"] == "succeeded"
    signed = [job["outputs"][0]["url"], f"{process.url}{job['urls']['events']}"]
    for url in signed:
        assert curl(url).status == 200
        assert curl(url + "x").status == 401
    curl("-H", "Authorization: Bearer wrong-" + TOKEN, f"{process.url}/api/v2/jobs")
    curl(*authorization, f"{process.url}/api/v2/nothing?token={TOKEN}")
    signatures = [re.search(r"signature=([^&]+)", url)[1] for url in signed]
    process.stop()
    log = log_of(process)
    assert job["id"] in log and "/content" in log
    for secret in (TOKEN, API_KEY, "signature", *signatures):
        assert secret not in log, [line for line in log.splitlines() if secret in line][:3]


def why(contract, base, id_, reason):
    """The answer, once the reason is that one."""
    wait_for(lambda: curl(f"{base}/api/v2/jobs/{id_}/why").json()["reason"] == reason)
    reply = contract.check("GET", "/api/v2/jobs/{id}/why", curl(f"{base}/api/v2/jobs/{id_}/why"))
    assert reply.headers["comfy-job-id"] == reply.json()["job_id"] == id_
    return reply.json()


def test_reasons_fit_the_document(bridge, contract):
    running, second, third = (curl(f"{bridge}/api/v2/jobs", data={"workflow": workflow}).json()["id"]
                              for workflow in (workflows.endless(), workflows.plain(color=7), workflows.plain(color=8)))
    wait_for(lambda: workflows.SAMPLER in str(curl(f"{bridge}/api/v2/jobs/{running}/why").json()["details"].get("node")))
    answer = why(contract, bridge, running, "running")
    assert answer["details"]["node"]["class_type"] == workflows.SAMPLER and f'{workflows.SAMPLER} "Sampler"' in answer["message"]
    assert running in why(contract, bridge, second, "comfyui_busy")["message"]
    assert why(contract, bridge, third, "queued")["details"]["queue_position"] == 0
    curl("-X", "POST", f"{bridge}/api/v2/jobs/{running}/cancel")
    why(contract, bridge, running, "canceled")
    assert why(contract, bridge, third, "succeeded")["details"]["outputs"] == 1
    failed = curl(f"{bridge}/run", data=workflows.raising()).headers["comfy-job-id"]
    assert why(contract, bridge, failed, "failed")["details"]["class_type"] == "SimRaise"
    contract.check_error(contract.check("GET", "/api/v2/jobs/{id}/why", curl(f"{bridge}/api/v2/jobs/0/why")), 404, "not_found")


def test_reason_is_told_while_no_comfyui_is_there(binary, contract):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        process = Process(binary, "serve", "--port", 0, "--comfyui", url, "--upstream-grace", 600)
        job = curl(f"{process.url}/api/v2/jobs", data={"workflow": workflows.plain()}).json()
        answer = why(contract, process.url, job["id"], "comfyui_unreachable")
        assert url in answer["message"] and answer["details"]["comfyui"][0]["available"] is False
        process.stop()


@pytest.mark.parametrize("arguments, status", [([], 200), (["-H", "Accept: image/png"], 200), (["-H", "Prefer: respond-async"], 202)])
def test_timing_of_a_run_adds_up(bridge, contract, arguments, status):
    begin = time.monotonic()
    reply = contract.check("POST", "/run", curl(*arguments, f"{bridge}/run", data=workflows.txt2img(steps=5, seed=903 + len(arguments) + status)))
    measured = (time.monotonic() - begin) * 1000
    assert reply.status == status
    parts = dict(re.findall(r"(\w+);dur=(\d+\.\d)", reply.headers["server-timing"]))
    assert list(parts) == ["queue", "execution", "fetch", "bridge"]
    total = sum(map(float, parts.values()))
    assert total <= measured and total >= (200 if status == 200 else 0)
