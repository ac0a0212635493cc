"""ComfyUI answers with something else than it should, on every route that the bridge uses: callers are told, or never notice, and the next
job runs as if nothing had been."""

import pytest

import workflows
from callers import Caller, until
from http_client import curl
from processes import Process

FAULTS = ["error=413", "error=500", "html", "garbage", "endless"]


class Upstream:
    def __init__(self, binary):
        self.simulator = Process(binary, "simulate", "--port", 0, "--step-delay", 20)
        self.bridge = Process(binary, "serve", "--port", 0, "--comfyui", self.simulator.url, "--upstream-silence", 1)
        self.url = self.bridge.url

    def order(self, text):
        reply = curl(f"{self.simulator.url}/simulator/faults", data={"fault": text})
        assert reply.status < 300, reply.body

    def peace(self):
        curl("-X", "DELETE", f"{self.simulator.url}/simulator/faults")

    def run(self, workflow=None):
        return curl(f"{self.url}/run", data=workflow or workflows.plain(color=self.color()))

    def color(self):
        """Of a picture that is in no cache yet."""
        self.count = getattr(self, "count", 0) + 1
        return self.count

    def stop(self):
        self.bridge.stop()
        self.simulator.stop()


@pytest.fixture(scope="module")
def shared(binary):
    upstream = Upstream(binary)
    assert upstream.run().status == 200
    yield upstream
    upstream.stop()


@pytest.fixture
def upstream(shared):
    """After the test ComfyUI is well, and the next job runs."""
    yield shared
    shared.peace()
    reply = shared.run()
    assert reply.status == 200 and reply.json()["outputs"][0]["size_bytes"] > 0, reply.body


def code(reply):
    return reply.status, reply.json().get("error") and reply.json()["error"]["code"]


@pytest.mark.parametrize("fault, expected", [
    ("error=413", (413, "payload_too_large")), ("error=500", (502, "upstream_error")),
    # These answer a prompt that is queued all the same.
    ("error-after=500", (200, None)), ("html", (200, None)), ("garbage", (200, None)), ("endless", (200, None)), ("no-answer", (200, None)),
])
def test_submit(upstream, fault, expected):
    upstream.order(f"{fault}~POST /prompt*1")
    assert code(upstream.run()) == expected


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("route", ["GET /queue", "GET /history"])
def test_looking_for_a_job(upstream, route, fault):
    """Its end is not told, and the books cannot be read at first."""
    upstream.order(f"{fault}~{route}*2")
    upstream.order("drop-final=both*1")
    assert code(upstream.run()) == (200, None)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("route", ["POST /queue", "POST /interrupt"])
def test_canceling(upstream, route, fault):
    job = curl(f"{upstream.url}/api/v2/jobs", data={"workflow": workflows.endless()}).json()
    until(lambda: curl(f"{upstream.url}{job['urls']['self']}").json()["status"] == "running", "the job runs")
    upstream.order(f"{fault}~{route}*1")
    assert curl("-X", "POST", f"{upstream.url}{job['urls']['cancel']}").json()["status"] == "canceling"
    until(lambda: curl(f"{upstream.url}{job['urls']['self']}").json()["status"] == "canceled", "the job is canceled")
    queue = curl(f"{upstream.simulator.url}/queue").json()
    assert queue["queue_running"] == []


@pytest.mark.parametrize("fault", ["error=413", "error=500"])
def test_size_of_an_output(upstream, fault):
    upstream.order(f"{fault}~HEAD /view*1")
    reply = upstream.run()
    assert code(reply) == (200, None) and reply.json()["outputs"][0]["size_bytes"] > 0, "it was asked again"
    upstream.order(f"{fault}~HEAD /view")
    reply = upstream.run()
    assert code(reply) == (200, None), "the output is there, only its size is not known"
    assert curl(reply.json()["outputs"][0]["url"]).body.startswith(b"\x89PNG")


@pytest.mark.parametrize("fault", ["error=413", "error=500", "html", "garbage"])
def test_download(upstream, contract, fault):
    output = upstream.run().json()["outputs"][0]
    upstream.order(f"{fault}~GET /view")
    contract.check_error(contract.check("GET", "/api/v2/assets/{id}/content", curl(output["url"])), 502, "upstream_error")
    assert code(curl(f"{upstream.url}/run?outputs=base64", data=workflows.plain(color=upstream.color()))) == (502, "upstream_error")


def test_download_without_an_end(upstream):
    """No more is passed on than was announced."""
    output = upstream.run().json()["outputs"][0]
    upstream.order("endless~GET /view")
    assert len(curl(output["url"]).body) == output["size_bytes"]
    assert code(curl(f"{upstream.url}/run?outputs=base64", data=workflows.plain(color=upstream.color()))) == (502, "upstream_error")


@pytest.mark.parametrize("fault, expected", [
    ("error=413", (413, "payload_too_large")), ("error=500", (502, "upstream_error")), ("html", (502, "upstream_error")), ("garbage", (502, "upstream_error")),
    ("endless", (502, "upstream_error")),
])
def test_bringing_a_file(upstream, tmp_path, fault, expected):
    picture = tmp_path / f"{fault}.png"
    picture.write_bytes(curl("-H", "Accept: image/png", f"{upstream.url}/run", data=workflows.plain(color=upstream.color())).body)
    asset = curl("-F", f"file=@{picture}", f"{upstream.url}/api/v2/assets").json()
    upstream.order(f"{fault}~POST /upload*1")
    assert code(upstream.run(workflows.with_asset(asset["id"]))) == expected


@pytest.mark.parametrize("fault", FAULTS)
def test_connecting(upstream, binary, fault):
    """Nothing that a bridge asks at its start gets an answer at first."""
    for route in ["GET /ws", "GET /object_info", "GET /system_stats", "GET /node_replacements"]:
        upstream.order(f"{fault}~{route}*1")
    bridge = Process(binary, "serve", "--port", 0, "--comfyui", upstream.simulator.url, "--upstream-silence", 0.5)
    try:
        assert code(curl(f"{bridge.url}/run", data=workflows.plain(color=upstream.color()))) == (200, None)
        until(lambda: curl(f"{bridge.url}/readyz").status == 200, "the bridge is ready")
        assert "the node list could not be read" in bridge.text_of_log()
    finally:
        bridge.stop()


def test_huge_frames(upstream):
    """200 MB are taken, also when they take longer than --upstream-silence; more than 256 MB end the connection, and the job is found again."""
    upstream.order("huge-frame=200*1")
    stream = curl("-N", "-H", "Accept: text/event-stream", f"{upstream.url}/run?previews=url", data=workflows.plain(color=upstream.color()))
    events = stream.events()
    assert events[-1].data["status"] == "succeeded"
    assert [event.data["number"] for event in events if event.type == "preview"] == [1]
    upstream.order("huge-frame=300*1")
    assert code(upstream.run()) == (200, None)
    assert "larger than 268435456 bytes" in upstream.bridge.text_of_log()


def test_lying_frames(upstream):
    for length in (0, 5, 0x7FFF_FFFF, 0xFFFF_FFFF):
        upstream.order(f"lying-length={length}*2")
        assert code(upstream.run()) == (200, None)
    assert "a message of ComfyUI cannot be read" in upstream.bridge.text_of_log()


def test_floods_and_huge_heads(upstream):
    """Hundreds of requests at once on one connection each, and heads beyond any sense: each gets an answer."""
    crowd = [Caller(upstream.url, "GET", "/api/v2/health") for _ in range(800)]
    assert all(caller.read_until(b"}").startswith(b"HTTP/1.1 200 ") for caller in crowd)
    for name, value in [("X-Large", "x" * 100_000), ("Cookie", "a=b; " * 4000)]:
        caller = Caller(upstream.url, "GET", "/api/v2/health", {name: value})
        assert caller.read_all().split()[1] in (b"431", b"413", b"400")
    many = Caller(upstream.url, "GET", "/api/v2/health", {f"X-{number}": "y" for number in range(5000)})
    assert many.read_all().split()[1] in (b"431", b"413", b"400")
