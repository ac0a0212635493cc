"""Loaded by the schemathesis that test_schemathesis.py starts.

What is generated alone would be refused at the door. So real ids, hashes and workflows are mixed in, in turn, and every answer is written into
a book, in which the test sees how far the requests came. Values that were made to be wrong stay as they are.
"""

import collections
import itertools
import json
import os
import random

import schemathesis
from schemathesis.core.parameters import ParameterLocation
from schemathesis.generation.meta import TestPhase

import workflows
from contract import Contract
from http_client import parse_events

GIVEN = json.loads(os.environ["SCHEMATHESIS_GIVEN"])
BOOK = open(GIVEN["book"], "a", encoding="utf-8", buffering=1)
CONTRACT = Contract()
DRAWN = object()
"""In a list of choices: what was drawn stays."""

turns = collections.defaultdict(itertools.count)
dice = {}
"""For paths: requests are generated in rhythms, to which a count would fall into step."""
uploads = []
missed = set()
"""Operations that have answered 404."""


def in_turn(operation, what, *choices):
    # The numbers of choices for one operation have no common divisor, so that each choice meets each other one.
    return choices[next(turns[operation, what]) % len(choices)]


@schemathesis.hook
def before_load_schema(context, raw_schema):
    if GIVEN["token"]:
        raw_schema["security"] = [{"bearerAuth": []}]   # optional in the document, and not before this bridge
    # schemathesis takes the schema of a stream for that of each event in it; events_fit_the_catalogue does that work.
    raw_schema["components"]["schemas"]["EventStream"] = {}


@schemathesis.check
def events_fit_the_catalogue(context, response, case):
    if response.headers.get("content-type", [""])[0].startswith("text/event-stream"):
        for event in parse_events(response.content.decode()):
            CONTRACT.check_event(event)


@schemathesis.hook
def before_call(context, case, kwargs):
    operation = f"{case.method} {case.operation.path}"
    # In the stateful phase the ids are those of an answer before.
    if not is_stateful(case) and not is_meant_to_be_wrong(case, ParameterLocation.PATH) and is_there(operation):
        case.path_parameters.update({name: value for name, value in things(operation).items() if name in case.path_parameters})
    headers = {
        "POST /run": {"Accept": [DRAWN, "image/png", "image/*", DRAWN, "text/event-stream", DRAWN, "video/mp4", "application/json;q=0.1"]},
        "GET /api/v2/assets/{id}/content": {"Range": [DRAWN, "bytes=0-9", "bytes=-7", "bytes=99999999-", "bytes=x"], "If-None-Match": [DRAWN] * 6 + ["*"]},
        "GET /api/v2/jobs/{id}/preview": {"If-None-Match": [DRAWN, "*", DRAWN, "*", DRAWN]},
        "GET /api/v2/jobs/{id}/previews/{n}": {"If-None-Match": [DRAWN, "*", DRAWN, "*", DRAWN]},
        "GET /api/v2/jobs/{id}/events": {"Last-Event-ID": [DRAWN, "3", DRAWN, DRAWN, GIVEN["jobs"].get(case.path_parameters.get("id"), DRAWN)]},
    }
    for name, choices in headers.get(operation, {}).items():
        if (value := in_turn(operation, name, *choices)) is not DRAWN:
            case.headers[name] = value
    if "Last-Event-ID" in case.headers:
        case.query.pop("last_event_id", None)   # is not looked at beside the header
    if 0 < number(case.query.get("timeout")) < 30:
        case.query["timeout"] = 30   # else the answer is the 504 that was asked for
    if isinstance(case.body, dict) and not is_meant_to_be_wrong(case, ParameterLocation.BODY):
        case.body = body(operation, case.body)


def is_there(operation):
    """Whether what the path names is to be there, which it is mostly once it has not been; the same in every run of the test."""
    return dice.setdefault(operation, random.Random(operation)).random() < (0.7 if operation in missed else 0.3)


def things(operation):
    if "/jobs/" in operation:
        return {"id": in_turn(operation, "job", *GIVEN["jobs"]), "n": in_turn(operation, "n", 1, 2)}
    if operation == "DELETE /api/v2/assets/{id}" and uploads:
        return {"id": uploads.pop()}
    return {"id": in_turn(operation, "asset", *GIVEN["assets"]), "hash": GIVEN["hash"]}


def body(operation, drawn):
    """Now and then what leads to success, with whatever was drawn beside it."""
    if operation in ("POST /run", "POST /api/v2/jobs"):
        choices = [DRAWN, workflows.plain(), workflows.plain(size=8), DRAWN, workflows.with_asset(in_turn(operation, "asset", *GIVEN["assets"]))]
        workflow = in_turn(operation, "workflow", *choices)
        if workflow is not DRAWN:
            return {**drawn, "workflow": workflow} if "workflow" in drawn else workflow
    if operation == "POST /api/v2/assets/from-hash":
        hash_ = in_turn(operation, "hash", DRAWN, GIVEN["hash"], "blake3:" + 64 * "0")
        return drawn if hash_ is DRAWN else {**drawn, "hash": hash_}
    return drawn


def number(value):
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0


def is_stateful(case):
    return case.meta is not None and case.meta.phase.name == TestPhase.STATEFUL


def is_meant_to_be_wrong(case, location):
    component = case.meta.components.get(location) if case.meta else None
    return component is not None and component.mode.is_negative


@schemathesis.hook
def after_call(context, case, response):
    BOOK.write(f"{case.method} {case.operation.path} {response.status_code}\n")
    if response.status_code == 404:
        missed.add(f"{case.method} {case.operation.path}")
    if (case.method, case.operation.path) == ("POST", "/api/v2/assets") and response.status_code in (200, 201) and not is_stateful(case):
        uploads.append(json.loads(response.content)["id"])
