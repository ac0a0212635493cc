"""openapi.yaml is valid, is what the bridge serves, and describes what the bridge answers."""

import zlib

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

import workflows
from http_client import curl

TOKEN = "a-token-for-these-tests"
UNKNOWN_HASH = "blake3:" + 64 * "0"


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


def test_list_of_jobs_fits_the_document(bridge, contract):
    def page(query, status=200):
        reply = curl("-g", f"{bridge}/api/v2/jobs?{query}")
        assert reply.status == status, reply.body
        return contract.check("GET", "/api/v2/jobs", reply).json()

    ids = [curl(f"{bridge}/run", data={"workflow": workflows.plain(), "metadata": {"order": "list", "number": number}, "priority": number}).json()["id"]
           for number in range(3)]
    first = page("limit=2&metadata[order]=list&status=succeeded,failed")
    assert [job["id"] for job in first["jobs"]] == [ids[2], ids[1]] and first["truncated"]
    assert [job["priority"] for job in first["jobs"]] == [2, 1]
    second = page(f"limit=2&metadata[order]=list&status=succeeded,failed&cursor={first['next_cursor']}")
    assert [job["id"] for job in second["jobs"]] == [ids[0]] and not second["truncated"] and "next_cursor" not in second
    assert page("metadata[order]=list&status=queued")["jobs"] == []
    for query, code in [("limit=0", "invalid_parameter"), ("status=done", "invalid_parameter"), ("cursor=mine", "invalid_cursor"),
                        ("metadata=order", "invalid_metadata_filter")]:
        assert page(query, status=400)["error"]["code"] == code


def test_waiting_for_a_change_fits_the_document(bridge, contract):
    job = curl(f"{bridge}/api/v2/jobs", data={"workflow": workflows.txt2img(steps=5, seed=103)}).json()
    path, statuses = "/api/v2/jobs/{id}", [job["status"]]
    while statuses[-1] not in ("succeeded", "failed"):
        reply = contract.check("GET", path, curl("-H", "Prefer: wait=30", f"{bridge}{job['urls']['self']}"))
        assert reply.status == 200 and reply.headers["preference-applied"] == "wait=30"
        statuses.append(reply.json()["status"])
    assert statuses[-1] == "succeeded" and len(statuses) <= 4, "each answer came with a change"
    assert contract.check("GET", path, curl("-H", "Prefer: wait=soon", f"{bridge}{job['urls']['self']}")).status == 400


def test_life_of_an_asset_fits_the_document(bridge, contract, tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text(f"of this test alone: {tmp_path}")

    def upload(*form, status):
        reply = contract.check("POST", "/api/v2/assets", curl(*form, f"{bridge}/api/v2/assets"))
        assert reply.status == status, reply.body
        return reply.json()

    new = upload("-F", f"file=@{file};type=text/plain", "-F", "tags=a", "-F", "tags=b", "-F", "expires_in=3600", status=201)
    assert new["created_new"] and new["tags"] == ["a", "b"] and (new["file_path"], new["content_type"]) == ("notes.txt", "text/plain")
    assert new["size_bytes"] == file.stat().st_size and new["expires_at"]
    again = upload("-F", f"file=@{file}", "-F", "file_path=notes/same.txt", "-F", f"expected_hash={new['hash']}", status=200)
    assert not again["created_new"] and again["hash"] == new["hash"] and again["id"] != new["id"]

    mismatch = upload("-F", f"file=@{file}", "-F", f"expected_hash={UNKNOWN_HASH}", status=409)["error"]
    assert (mismatch["code"], mismatch["details"]) == ("hash_mismatch", {"expected": UNKNOWN_HASH, "actual": new["hash"]})
    for form in (["-F", "file_path=a"], ["-F", f"file=@{file}", "-F", "expires_in=1"], ["-F", f"file=@{file}", "-F", "file_path=../a"]):
        assert upload(*form, status=422)["error"]["code"] == "invalid_request"
    assert upload("--json", "{}", status=415)["error"]["code"] == "unsupported_media_type"
    broken = ["-H", "Content-Type: multipart/form-data; boundary=x", "--data-binary", "--x\r\nContent-Disposition: form-data; name=file\r\n\r\nabc"]
    assert upload(*broken, status=400)["error"]["code"] == "invalid_request"

    def from_hash(status, **body):
        reply = contract.check("POST", "/api/v2/assets/from-hash", curl(f"{bridge}/api/v2/assets/from-hash", data=body))
        assert reply.status == status, reply.body
        return reply.json()

    third = from_hash(201, hash=new["hash"], file_path="third.txt")
    assert from_hash(200, hash=new["hash"], file_path="third.txt")["id"] == third["id"] and not third["created_new"]
    assert from_hash(404, hash=UNKNOWN_HASH)["error"]["code"] == "blob_not_found"
    assert from_hash(422, hash="md5:0")["error"]["details"]["field"] == "hash"
    for hash_, status in ((new["hash"], 200), (UNKNOWN_HASH, 404), ("nonsense", 404)):
        assert contract.check("HEAD", "/api/v2/assets/by-hash/{hash}", curl("-I", f"{bridge}/api/v2/assets/by-hash/{hash_}")).status == status

    path = f"{bridge}/api/v2/assets/{third['id']}"
    assert contract.check("GET", "/api/v2/assets/{id}", curl(path)).json()["hash"] == new["hash"]
    assert contract.check("GET", "/api/v2/assets/{id}/content", curl(f"{path}/content")).body == file.read_bytes()
    assert contract.check("DELETE", "/api/v2/assets/{id}", curl("-X", "DELETE", path)).status == 204
    assert contract.check("DELETE", "/api/v2/assets/{id}", curl("-X", "DELETE", path)).status == 404
    assert curl(f"{bridge}/api/v2/assets/{new['id']}/content").body == file.read_bytes(), "the bytes are still those of others"


def test_references_to_assets_fit_the_document(bridge, contract):
    first = curl(f"{bridge}/run", data=workflows.plain(color=0x00FF80)).json()
    output = first["outputs"][0]
    second = contract.check("POST", "/run", curl(f"{bridge}/run", data=workflows.with_asset(output["id"]))).json()
    assert second["status"] == "succeeded"
    in_use = contract.check("DELETE", "/api/v2/assets/{id}", curl("-X", "DELETE", f"{bridge}/api/v2/assets/{output['id']}"))
    contract.check_error(in_use, 409, "asset_in_use")
    contract.validate("AssetReference", workflows.with_asset("0")["1"]["inputs"]["image"])
    missing = contract.check("POST", "/api/v2/jobs", curl(f"{bridge}/api/v2/jobs", data={"workflow": workflows.with_asset("no-such-asset")}))
    assert contract.check_error(missing, 422, "missing_asset")["details"] == {"missing_ids": ["no-such-asset"]}


def test_security_is_what_the_document_says(start_bridge, contract):
    url = start_bridge("--token", TOKEN).url
    for template, item in contract.document["paths"].items():
        path = template.replace("{id}", "0").replace("{n}", "1").replace("{hash}", UNKNOWN_HASH)
        for method, operation in item.items():
            command = ["-I"] if method == "head" else ["-X", method.upper()]
            reply = contract.check(method, template, curl(*command, f"{url}{path}"))
            assert (reply.status != 401) == (operation.get("security") == []), f"{method} {path} without a token: {reply.status}"
            assert contract.check(method, template, curl(*command, "-H", f"Authorization: Bearer {TOKEN}", f"{url}{path}")).status != 401
            foreign = curl(*command, "-H", f"Authorization: Bearer {TOKEN}", "-H", "Origin: https://foreign.example", f"{url}{path}")
            assert contract.check(method, template, foreign).status == 403


def test_signed_urls_fit_the_document(start_bridge, contract):
    url = start_bridge("--token", TOKEN).url
    authorization = ["-H", f"Authorization: Bearer {TOKEN}"]
    stream = ["-N", "-H", "Accept: text/event-stream", f"{url}/run?previews=url"]
    run = curl(*authorization, *stream, data=workflows.txt2img(steps=3, seed=104)).events()
    preview = next(event.data for event in run if event.type == "preview")
    assert contract.check("GET", "/api/v2/jobs/{id}/previews/{n}", curl(preview["url"])).status == 200

    job = contract.check("GET", "/api/v2/jobs/{id}", curl(*authorization, f"{url}{run[0].data['urls']['self']}?signed_events=1")).json()
    content = curl(job["outputs"][0]["url"])
    assert contract.check("GET", "/api/v2/assets/{id}/content", content).status == 200 and len(content.body) == job["outputs"][0]["size_bytes"]
    events = curl("-N", f"{url}{job['urls']['events']}&previews=url").events()
    for event in events:
        contract.check_event(event)
    assert events[-1].data == {"status": "succeeded"}
    for forged in (job["outputs"][0]["url"][:-1] + "x", f"{url}{job['urls']['self']}?{job['urls']['events'].split('?')[1]}"):
        contract.check_error(curl(forged), 401, "unauthorized")
    contract.validate("Readiness", ready := curl(f"{url}/readyz").json())
    assert ready == {"ready": True}


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
    assert contract.check("GET", "/metrics", curl(f"{bridge}/metrics")).content_type == "text/plain"


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
