"""openapi.yaml is a superset of the public Comfy API v2: whatever a client of that may send is taken, whatever it may count on is there.

The public contract itself is not part of this project; contract_surface.json has its facts. Differences on purpose stand below.
"""

import copy
import fnmatch
import json
import os
import pathlib

import pytest
import yaml

import contract_surface
from contract import ROOT, Contract

FACTS = json.loads(contract_surface.FACTS.read_text(encoding="utf-8"))

RATE_LIMIT = "the bridge limits the length of its queue, not the rate of requests"
ERRORS_OF_COMFYUI = "here upstream_error means that ComfyUI failed, which is a 502; a failure of the bridge itself is internal_error"
NO_BODY = "an answer to HEAD has no body"
ABSOLUTE = "absolute whenever the request named a Host, which all but HTTP/1.0 do; a path else"

DIFFERENCES = {
    "GET /api/v2/assets/{id}/content 302: not there": "the bridge has the bytes itself and never redirects",
    "POST /api/v2/jobs 402: not there": "nothing here costs credits",
    "POST /api/v2/jobs 429: no code deployment_not_ready": "there are no deployments; a ComfyUI that is away is 503 upstream_unreachable",
    "GET /api/v2/jobs/{id} 429: not there": RATE_LIMIT,
    "GET /api/v2/jobs/{id}/workflow 429: not there": RATE_LIMIT,
    "POST /api/v2/jobs/{id}/cancel 429: not there": RATE_LIMIT,
    "GET /api/v2/jobs/{id}/events 429: not there": "a caller may have as many streams as --connection-limit lets in",
    "GET /api/v2/jobs/{id}/events 501: not there": "streams are always served",
    "HEAD /api/v2/assets/by-hash/{hash} 401: no application/json": NO_BODY,
    "HEAD /api/v2/assets/by-hash/{hash} 500: no application/json": NO_BODY,
    "header Idempotency-Key: maxLength": "keys are kept in memory, so their length is bounded; 256 is seven UUIDs",
    "header Idempotency-Key: minLength": "an empty key is a mistake of the caller's, told to it",
    "POST /api/v2/assets request .content_type: maxLength": "RFC 6838 lets a type have no more, and it is sent as a header",
    **{f"POST {path} request .tags{keyword}": "there is room for 64 tags of 256 bytes, and an empty one says nothing"
       for path in ("/api/v2/assets", "/api/v2/assets/from-hash") for keyword in (": maxItems", "[]: minLength", "[]: maxLength")},
    "POST /api/v2/jobs request .workflow: minProperties": "a workflow without nodes cannot run",
    "POST /api/v2/jobs request .workflow: additionalProperties": "a node has class_type and inputs; what has not is 422 invalid_workflow in both",
    "PreviewEvent.data_base64: not required": "always there, unless the caller asked for previews=url",
    "Asset.url: format uri-reference instead of uri": ABSOLUTE,
    "Output.url: format uri-reference instead of uri": ABSOLUTE,
    "error code deployment_not_ready: not there": "there are no deployments",
    "error code deployment_stopped: not there": "there are no deployments",
    "error code insufficient_credits: not there": "nothing here costs credits",
} | {f"{operation} 500: no code upstream_error": ERRORS_OF_COMFYUI for operation in FACTS["operations"] if not operation.startswith("HEAD ")}

NARROWING = ("const", "pattern", "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
"""Keywords of a request's schema that refuse what the public contract, which has none of them, lets through."""


def originals():
    """The public contract, where it is at hand."""
    if named := os.environ.get("COMFY_CONTRACT"):
        return [pathlib.Path(named)]
    beside = ROOT.parent / "shared/contract/comfy-api-v2.openapi.yaml"
    return [beside] if beside.exists() else []


class Comparison:
    """What of the facts is missing or otherwise in a document of ours (OpenAPI 3.1)."""

    def __init__(self, facts, contract):
        self.facts, self.contract, self.resolve = facts, contract, contract.resolve
        self.differences = set()
        self.seen = set()
        self.compare()

    def compare(self):
        self.security_schemes()
        codes = self.contract.components["schemas"]["ErrorCode"]["enum"]
        self.differences |= {f"error code {code}: not there" for code in self.facts["errorCodes"] if code not in codes}
        for name, theirs in self.facts["operations"].items():
            method, path = name.split(" ")
            ours = self.contract.document["paths"].get(path, {}).get(method.lower())
            if ours is None:
                self.differences.add(f"{name}: not there")
            else:
                self.operation(name, theirs, ours)
        reached = {name for name, _, _ in self.seen}
        for name in self.facts["schemas"].keys() - reached:
            # Placed inside workflows by callers, and mentioned nowhere else.
            ours = self.contract.components["schemas"].get(name)
            if ours is None:
                self.differences.add(f"{name}: not there")
            else:
                self.schema(name, self.facts["schemas"][name], ours, is_request=True)

    def security_schemes(self):
        for name, theirs in self.facts["securitySchemes"].items():
            ours = self.contract.components.get("securitySchemes", {}).get(name, {})
            self.same(f"security scheme {name}", theirs, {key: ours.get(key) for key in theirs})

    def same(self, what, theirs, ours):
        if theirs != ours:
            self.differences.add(f"{what}: {ours} instead of {theirs}")

    def operation(self, name, theirs, ours):
        self.same(f"{name} operationId", theirs["operationId"], ours["operationId"])
        self.same(f"{name} extensions", theirs["extensions"], {key: ours[key] for key in contract_surface.EXTENSIONS if key in ours})
        alternatives = [sorted(alternative) for alternative in ours.get("security", self.contract.document["security"])]
        self.differences |= {f"{name}: no security {wanted}" for wanted in theirs["security"] if wanted not in alternatives}

        parameters = {f"{p['in']} {p['name']}": p for p in map(self.resolve, ours.get("parameters", []))}
        for key in theirs["parameters"].keys() | parameters.keys():
            wanted, parameter = theirs["parameters"].get(key), parameters.get(key)
            if parameter is None:
                self.differences.add(f"{name} {key}: not there")
            elif wanted is None:
                if parameter.get("required"):
                    self.differences.add(f"{name} {key}: required")
            else:
                self.field(key, wanted, parameter["schema"], parameter.get("required", False), is_request=True)

        body = self.resolve(ours.get("requestBody", {})).get("content", {})
        self.content(f"{name} request", theirs["request"], body, is_request=True)
        for status, answer in theirs["responses"].items():
            if status in ours["responses"]:
                self.response(f"{name} {status}", answer, self.resolve(ours["responses"][status]))
            else:
                self.differences.add(f"{name} {status}: not there")
        events = ours.get("x-sse-events", {})
        for event, wanted in theirs["events"].items():
            if event in events:
                self.field(f"event {event}", wanted, events[event]["schema"], True, is_request=False)
            else:
                self.differences.add(f"{name} event {event}: not there")

    def response(self, where, theirs, ours):
        self.differences |= {f"{where}: no {header}" for header in theirs["headers"] if header not in ours.get("headers", {})}
        examples = [self.resolve(example) for media in ours.get("content", {}).values() for example in media.get("examples", {}).values()]
        if ours.get("content"):
            codes = {example["value"]["error"]["code"] for example in examples if isinstance(example["value"], dict) and example["value"].get("error")}
            self.differences |= {f"{where}: no code {code}" for code in theirs["codes"] if code not in codes}
        self.content(where, theirs["content"], ours.get("content", {}), is_request=False)

    def content(self, where, theirs, ours, is_request):
        for media_type, fields in theirs.items():
            covering = [pattern for pattern in ours if fnmatch.fnmatch(media_type, pattern)]
            if not covering:
                self.differences.add(f"{where}: no {media_type}")
            elif covering[0] == media_type:
                self.schema(where, fields, ours[media_type]["schema"], is_request)

    def schema(self, where, fields, ours, is_request):
        """`fields`: by path, relative to `ours`."""
        for path, wanted in fields.items():
            found, required = self.locate(ours, path)
            separator = " " if where.endswith(" request") else ""
            if found is None:
                self.differences.add(f"{where}{separator}{path}: not there")
            else:
                self.field(f"{where}{separator}{path}", wanted, found, required, is_request)

    def locate(self, schema, path):
        """The schema at the path, and whether it must be there."""
        required = True
        for step in path.replace("[]", ".[]").replace("{}", ".{}").split(".")[1:]:
            parts = list(self.parts(schema))
            if step == "[]":
                found = [part["items"] for part in parts if "items" in part]
            elif step == "{}":
                found = [part["additionalProperties"] for part in parts if isinstance(part.get("additionalProperties"), dict)]
            else:
                found = [part["properties"][step] for part in parts if step in part.get("properties", {})]
                required = self.demands(schema, step)
            if not found:
                return None, False
            schema = found[0]
        return schema, required

    def demands(self, schema, member):
        schema = self.resolve(schema)
        alternatives = schema.get("anyOf", [])
        return (
            member in schema.get("required", []) or any(self.demands(part, member) for part in schema.get("allOf", []))
            or bool(alternatives) and all(self.demands(part, member) for part in alternatives)
        )

    def parts(self, schema):
        """The schema and what it is composed of."""
        schema = self.resolve(schema)
        yield schema
        for keyword in ("allOf", "anyOf"):
            for part in schema.get(keyword, []):
                yield from self.parts(part)

    def field(self, where, wanted, ours, required, is_request):
        parts = list(self.parts(ours))
        types = {type_ for part in parts for type_ in ([part["type"]] if isinstance(part.get("type"), str) else part.get("type", []))}
        nullable = "null" in types
        if "required" in wanted and (required and not wanted["required"] if is_request else wanted["required"] and not required):
            self.differences.add(f"{where}: {'' if required else 'not '}required")
        if nullable != wanted.get("nullable", False) and nullable != is_request:
            self.differences.add(f"{where}: {'' if nullable else 'not '}nullable")
        if "schema" in wanted:
            name = wanted["schema"]
            ours = next(self.resolve(part) for part in parts if part.get("type") != "null" and "anyOf" not in part)
            if (key := (name, id(ours), is_request)) not in self.seen:
                self.seen.add(key)
                self.schema(name, self.facts["schemas"][name], ours, is_request)
            return
        self.scalar(where, wanted, parts, types - {"null"}, is_request)

    def scalar(self, where, wanted, parts, types, is_request):
        def ours(keyword):
            return next((part[keyword] for part in parts if keyword in part), None)

        if "type" in wanted and types != {wanted["type"]}:
            self.differences.add(f"{where}: type {sorted(types)} instead of {wanted['type']}")
        if "format" in wanted and ours("format") != wanted["format"]:
            self.differences.add(f"{where}: format {ours('format')} instead of {wanted['format']}")
        values, known = set(ours("enum") or []), set(wanted.get("enum", []))
        if known - values or (values - known if known or is_request else False):
            self.differences.add(f"{where}: values {sorted(values)} instead of {sorted(known)}")
        for keyword, is_wider in (("minimum", lambda a, b: a < b), ("maximum", lambda a, b: a > b)):
            limit, bound = ours(keyword), wanted.get(keyword)
            if limit == bound or limit is None and is_request:
                continue
            if is_request:
                differs = bound is None or is_wider(bound, limit)
            else:
                differs = bound is not None and (limit is None or is_wider(limit, bound))
            if differs:
                self.differences.add(f"{where}: {keyword} {limit} instead of {bound}")
        if is_request:
            self.differences |= {f"{where}: {keyword}" for keyword in NARROWING if ours(keyword) is not None}
            if wanted.get("type") == "object" and isinstance(ours("additionalProperties"), dict):
                self.differences.add(f"{where}: additionalProperties")


def test_document_is_a_superset_of_the_public_contract(contract):
    found = Comparison(FACTS, contract).differences
    assert sorted(found - DIFFERENCES.keys()) == [], "differences that nobody meant"
    assert sorted(DIFFERENCES.keys() - found) == [], "differences that are listed and no longer there"


def test_facts_are_those_of_the_public_contract():
    """Against the original where there is one; else that the facts have the size they must have."""
    assert len(FACTS["operations"]) >= 11 and len(FACTS["schemas"]) >= 14
    for original in originals():
        derived = contract_surface.derive(yaml.safe_load(original.read_text(encoding="utf-8")))
        assert contract_surface.FACTS.read_text(encoding="utf-8") == contract_surface.text(derived), f"run contract_surface.py {original}"


def _without(mapping, key):
    del mapping[key]


@pytest.mark.parametrize("difference, change", {
    "DELETE /api/v2/assets/{id}: not there": lambda d: _without(d["paths"]["/api/v2/assets/{id}"], "delete"),
    "POST /api/v2/assets 409: not there": lambda d: _without(d["paths"]["/api/v2/assets"]["post"]["responses"], "409"),
    "POST /api/v2/jobs 429: no Retry-After": lambda d: _without(d["components"]["responses"]["QueueFull"], "headers"),
    "POST /api/v2/jobs header Idempotency-Key: not there": lambda d: d["paths"]["/api/v2/jobs"]["post"].update(parameters=[]),
    "POST /api/v2/jobs 422: no code missing_asset": lambda d: _without(
        d["components"]["responses"]["Unprocessable"]["content"]["application/json"]["examples"], "missing_asset"),
    "POST /api/v2/assets request .content_type: not there": lambda d: _without(
        d["paths"]["/api/v2/assets"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"], "content_type"),
    "GET /api/v2/jobs/{id}/events event log: not there": lambda d: _without(d["paths"]["/api/v2/jobs/{id}/events"]["get"]["x-sse-events"], "log"),
    "GET /api/v2/assets/{id}: no security ['bearerAuth']": lambda d: d["paths"]["/api/v2/assets/{id}"]["get"].update(security=[{}]),
    "Job.metrics{}: not there": lambda d: _without(d["components"]["schemas"]["Job"]["properties"]["metrics"], "additionalProperties"),
    "Job.queue_position: not required": lambda d: d["components"]["schemas"]["Job"]["required"].remove("queue_position"),
    "Job.created_at: nullable": lambda d: d["components"]["schemas"]["Job"]["properties"]["created_at"].update(type=["string", "null"]),
    "Job.created_at: format None instead of date-time": lambda d: _without(d["components"]["schemas"]["Job"]["properties"]["created_at"], "format"),
    "Progress.nodes_done: type ['string'] instead of integer": lambda d: d["components"]["schemas"]["Progress"]["properties"]["nodes_done"].update(type="string"),
    "ErrorEnvelope.error.message: not required": lambda d: d["components"]["schemas"]["ErrorEnvelope"]["properties"]["error"]["required"].remove("message"),
    "OutputType: values ['audio', 'file', 'image', 'latent', 'text'] instead of ['audio', 'file', 'image', 'latent', 'text', 'video']": lambda d:
        d["components"]["schemas"]["OutputType"]["enum"].remove("video"),
    "POST /api/v2/assets/from-hash request .file_path: required": lambda d:
        d["paths"]["/api/v2/assets/from-hash"]["post"]["requestBody"]["content"]["application/json"]["schema"]["required"].append("file_path"),
    "POST /api/v2/assets/from-hash request .expires_in: maximum 3600 instead of 604800": lambda d:
        d["components"]["schemas"]["ExpiresIn"].update(maximum=3600),
}.items(), ids=lambda value: value if isinstance(value, str) else "")
def test_comparison_sees(difference, change):
    """That the comparison compares: each of these changes of openapi.yaml would be noticed."""
    contract = Contract()
    contract.document = copy.deepcopy(contract.document)
    contract.components = contract.document["components"]
    before = Comparison(FACTS, contract).differences
    change(contract.document)
    assert difference in Comparison(FACTS, contract).differences - before
