"""schemathesis asks the running bridge whatever openapi.yaml allows, and much that it does not.

The ComfyUI behind it is alive and the workflows are harmless, so that no answer at all may be a 5xx, but for bytes asked of a job that failed.
"""

import json
import os
import pathlib
import subprocess
import sys

import pytest

import workflows
from contract import ROOT
from http_client import curl

HERE = pathlib.Path(__file__).parent
SEED = 20261124
TOKEN = "a-token-for-this-test"
AT_MOST = 240
"""Seconds; a quarter of a minute is what it takes."""

MUST_BE_REACHED = {200, 201, 202, 204, 206, 304, 400, 404, 406, 409, 415, 416, 422}
"""Of the statuses that an operation documents. The others need a bridge in trouble, which is what other tests are about."""

NOT_REACHED = {
    "POST /run 409": "needs a cancel while it blocks, or two requests with one key at the same moment",
    "POST /api/v2/jobs 409": "needs two requests with one key at the same moment",
    "POST /api/v2/assets 415": "every body that is generated is a form",
    **{f"GET /api/v2/jobs/{{id}} {status}": "needs a job with bytes of the type asked for, and headers of GET /api/v2/assets/{id}/content; test_curl.py has them"
       for status in (206, 304, 406, 416)},
    **{f"GET /api/v2/jobs/{{id}} {status}": "needs bytes asked of a job that ended so" for status in (409, 422)},
}


@pytest.mark.parametrize("token", [None, TOKEN], ids=["open", "with tokens"])
def test_no_answer_is_undocumented(start_bridge, contract, tmp_path, out, token):
    process = start_bridge(*(["--token", token] if token else []))
    authorization = ["-H", f"Authorization: Bearer {token}"] if token else []
    book = tmp_path / "book"
    given = {**things(process.url, authorization, tmp_path), "token": token, "book": str(book)}
    settings = tmp_path / "schemathesis.toml"
    settings.write_text((HERE / "schemathesis.toml").read_text(encoding="utf-8") + (f'\n[auth.openapi.bearerAuth]\nbearer = "{token}"\n' if token else ""))
    done = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "--config-file", settings, "run", ROOT / "openapi.yaml", "--url", process.url, "--seed", str(SEED)],
        cwd=tmp_path, capture_output=True, text=True, timeout=AT_MOST,
        env={**os.environ, "PYTHONPATH": str(HERE), "SCHEMATHESIS_HOOKS": "schemathesis_hooks", "SCHEMATHESIS_GIVEN": json.dumps(given)})
    (out / f"schemathesis-{'tokens' if token else 'open'}.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]

    reached = set(book.read_text(encoding="utf-8").splitlines())
    wanted = {
        f"{method.upper()} {path} {status}" for path, item in contract.document["paths"].items() for method, operation in item.items()
        for status in operation["responses"] if int(status) in MUST_BE_REACHED or token and status == "401"
    }
    assert sorted(wanted - reached - NOT_REACHED.keys()) == [], "documented, and no request came that far"


def things(url, authorization, folder):
    """Jobs that are over, one failed, one with previews, each with the id of its last event; their outputs; and an upload."""
    streams = [curl(*authorization, "-H", "Accept: text/event-stream", f"{url}/run", data=workflow).events()
               for workflow in (workflows.txt2img(steps=3, seed=777), workflows.plain(), workflows.raising())]
    jobs = [curl(*authorization, f"{url}{events[0].data['urls']['self']}").json() for events in streams]
    assert [job["status"] for job in jobs] == ["succeeded", "succeeded", "failed"]
    outputs = [output for job in jobs for output in job["outputs"]]
    picture = folder / "photo.png"
    picture.write_bytes(curl(*authorization, outputs[0]["url"]).body)
    upload = curl(*authorization, "-F", f"file=@{picture}", f"{url}/api/v2/assets").json()
    return {
        "jobs": {job["id"]: events[-1].id for job, events in zip(jobs, streams)},
        "assets": [upload["id"], *(output["id"] for output in outputs)], "hash": upload["hash"],
    }
