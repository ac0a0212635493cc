"""openapi.yaml is valid, is what the bridge serves, and describes what the bridge answers."""

import zlib

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

import workflows
from http_client import curl

# The names that the public Comfy API v2 requires; its clients count on them.
PUBLIC_CONTRACT = {
    "Job": {"id", "status", "created_at", "started_at", "completed_at", "expires_at", "queue_position", "progress", "outputs", "error", "urls"},
    "JobUrls": {"self", "events", "cancel"},
    "Output": {"node_id", "name", "type", "content_type", "size_bytes", "id", "hash", "url", "url_expires_at"},
    "Asset": {"id", "hash", "size_bytes", "content_type", "created_at", "url", "url_expires_at"},
    "Progress": {"value", "nodes_done", "nodes_total"},
    "JobError": {"code", "message"},
    "JobWorkflowResponse": {"workflow", "format"},
    "StatusEvent": {"status"},
    "LogEvent": {"level", "message"},
}


def test_document_is_valid(contract):
    OpenAPIV31SpecValidator(contract.document).validate()


def test_examples_fit_their_schemas(contract):
    checked = 0

    def visit(node):
        nonlocal checked
        if isinstance(node, dict):
            if "schema" in node and "examples" in node and isinstance(node["examples"], dict):
                for example in node["examples"].values():
                    contract.validate(node["schema"], contract.resolve(example)["value"])
                    checked += 1
            for child in node.values():
                visit(child)
        elif isinstance(node, list):
            for child in node:
                visit(child)

    visit(contract.document)
    assert checked > 30


def test_every_error_code_has_an_example(contract):
    found = set()

    def visit(node):
        if isinstance(node, dict):
            if isinstance(node.get("error"), dict) and "code" in node["error"] and "details" in node["error"]:
                found.add(node["error"]["code"])
            for child in node.values():
                visit(child)

    visit(contract.document)
    assert found == set(contract.components["schemas"]["ErrorCode"]["enum"])


@pytest.mark.parametrize("name", PUBLIC_CONTRACT)
def test_schemas_contain_the_public_contract(contract, name):
    schema = contract.components["schemas"][name]
    assert PUBLIC_CONTRACT[name] <= set(schema["required"])
    assert PUBLIC_CONTRACT[name] <= set(schema["properties"])


def test_served_document_is_the_file(bridge, contract):
    reply = contract.check("GET", "/openapi.yaml", curl(f"{bridge}/openapi.yaml"))
    assert reply.body == contract.text
    assert reply.content_type == "application/yaml"


def test_answers_of_a_run_fit_the_document(bridge, contract):
    job = contract.check("POST", "/run", curl(f"{bridge}/run", data=workflows.txt2img(steps=3, seed=101))).json()
    assert job["status"] == "succeeded"

    same = contract.check("GET", "/api/v2/jobs/{id}", curl(f"{bridge}{job['urls']['self']}")).json()
    assert same == job

    workflow = contract.check("GET", "/api/v2/jobs/{id}/workflow", curl(f"{bridge}/api/v2/jobs/{job['id']}/workflow")).json()
    assert workflow == {"workflow": workflows.txt2img(steps=3, seed=101), "format": "api"}

    output = job["outputs"][0]
    asset = contract.check("GET", "/api/v2/assets/{id}", curl(f"{bridge}/api/v2/assets/{output['id']}")).json()
    assert {name: asset[name] for name in ("id", "size_bytes", "content_type")} == {name: output[name] for name in ("id", "size_bytes", "content_type")}
    assert asset["job_id"] == job["id"]

    canceled = contract.check("POST", "/api/v2/jobs/{id}/cancel", curl("-X", "POST", f"{bridge}{job['urls']['cancel']}")).json()
    assert canceled["status"] == "succeeded", "canceling a job that is over changes nothing"


def test_submission_fits_the_document(bridge, contract):
    body = {"workflow": workflows.plain(), "metadata": {"order": 4711}}
    reply = contract.check("POST", "/api/v2/jobs", curl(f"{bridge}/api/v2/jobs", data=body))
    assert reply.status == 201
    job = reply.json()
    assert reply.headers["location"].endswith(f"/api/v2/jobs/{job['id']}")
    assert job["metadata"] == {"order": 4711}
    events = curl("-N", f"{bridge}{job['urls']['events']}").events()
    assert events[-1].type == "status" and events[-1].data["status"] == "succeeded"


@pytest.mark.parametrize("query", ["previews=base64", "previews=url", "previews=none", "native=1"])
def test_events_fit_the_catalogue(bridge, contract, query):
    events = curl("-N", "-H", "Accept: text/event-stream", f"{bridge}/run?{query}", data=workflows.txt2img(steps=4, seed=zlib.crc32(query.encode()))).events()
    for event in events:
        contract.check_event(event)
    types = {event.type for event in events}
    assert {"job", "status", "progress", "node", "output"} <= types
    assert ("preview" in types) == (query != "previews=none")
    catalogue = contract.operation("GET", "/api/v2/jobs/{id}/events")["x-sse-events"]
    for event in events:
        if catalogue[event.type]["has-id"] and event.type != "status":   # a status that only tells the place in the queue has none
            assert event.id is not None, event


def test_service_routes_fit_the_document(bridge, contract):
    health = contract.check("GET", "/api/v2/health", curl(f"{bridge}/api/v2/health")).json()
    assert health["status"] == "ok"
    ready = contract.check("GET", "/readyz", curl(f"{bridge}/readyz")).json()
    assert ready["ready"] is True and ready["comfyui"][0]["connected"] is True


@pytest.mark.parametrize("path, content_type", [("/", "text/html"), ("/app.js", "text/javascript"), ("/style.css", "text/css")])
def test_page_is_served(bridge, contract, path, content_type):
    reply = contract.check("GET", path, curl(f"{bridge}{path}"))
    assert (reply.status, reply.content_type) == (200, content_type)
    assert reply.body


def test_page_has_a_content_security_policy(bridge):
    assert "frame-ancestors" in curl(f"{bridge}/").headers["content-security-policy"]


def test_every_get_route_answers_head(bridge, contract):
    job = curl(f"{bridge}/run", data=workflows.txt2img(steps=2, seed=102)).json()
    values = {"/api/v2/assets": job["outputs"][0]["id"], "/api/v2/jobs": job["id"]}
    for template, item in contract.document["paths"].items():
        if "get" not in item:
            continue
        path = template.replace("{n}", "1")
        for prefix, value in values.items():
            if path.startswith(prefix):
                path = path.replace("{id}", value)
        get, head = curl(f"{bridge}{path}"), curl("-I", f"{bridge}{path}")
        assert head.status == get.status, f"{path}: HEAD {head.status}, GET {get.status}"
        assert head.headers.get("content-type") == get.headers.get("content-type"), path


def test_wrong_methods_are_405_with_allow(bridge, contract):
    for template, item in contract.document["paths"].items():
        path = template.replace("{id}", "0").replace("{n}", "0")
        for method in {"GET", "POST", "PUT", "DELETE", "PATCH"} - {name.upper() for name in item}:
            reply = curl("-X", method, f"{bridge}{path}")
            contract.check_error(reply, 405, "method_not_allowed")
            allowed = {name.strip() for name in reply.headers["allow"].split(",")}
            assert {name.upper() for name in item} <= allowed, f"{method} {path}: {allowed}"
