"""Who may use the bridge: tokens, signed URLs, the guards of bind address, Host and Origin."""

import os
import re
import subprocess
from urllib.parse import urlsplit

import pytest

import workflows
from http_client import curl
from processes import Process
from proxies import RecordingProxy

TOKEN = "e2e-token-5f1c0d3a9b7e"
OTHER = "e2e-other/token+42=="
BEARER = ("-H", f"Authorization: Bearer {TOKEN}")


def refusal(binary, *arguments, **environment):
    """What a start says that is refused."""
    done = subprocess.run(
        [binary, "serve", "--port", "0", *arguments], capture_output=True, text=True, timeout=30, env={**os.environ, **environment})
    assert done.returncode == 2, done
    assert done.stdout == ""
    return done.stderr


def log(process):
    with open(process.log.name, encoding="utf-8", errors="replace") as file:
        return file.read()


@pytest.fixture(scope="module")
def guarded(binary, simulator, tmp_path_factory):
    """A bridge with one token from a flag and one from a file, which logs all it can."""
    file = tmp_path_factory.mktemp("tokens") / "tokens"
    file.write_text(f"# for the tests\n\n{OTHER}\n")
    process = Process(
        binary, "serve", "--port", 0, "--comfyui", simulator.url, "--token", TOKEN, "--token-file", file, "--log-level", "trace",
        "--cors-origin", "https://app.example.com")
    yield process
    process.stop()


def check_unauthorized(reply):
    assert reply.status == 401, reply.body
    error = reply.json()["error"]
    assert error["code"] == "unauthorized"
    assert "Authorization: Bearer TOKEN" in error["message"]
    assert reply.headers["www-authenticate"] == "Bearer"


def test_tokens(guarded):
    url = guarded.url
    for path in ("/api/v2/health", "/openapi.yaml", "/", "/app.js", "/style.css"):
        assert curl(url + path).status == 200
    # 503 while ComfyUI is not connected yet.
    ready = curl(f"{url}/readyz")
    assert ready.json() == {"ready": ready.status == 200}
    check_unauthorized(curl(f"{url}/run", data=workflows.plain()))
    check_unauthorized(curl("-H", "Authorization: Bearer nobody-knows-this-one", f"{url}/run", data=workflows.plain()))
    check_unauthorized(curl("-u", f"user:{TOKEN}", f"{url}/run", data=workflows.plain()))
    check_unauthorized(curl(f"{url}/run?token={TOKEN}", data=workflows.plain()))
    for token in (TOKEN, OTHER):
        reply = curl("--oauth2-bearer", token, f"{url}/run", data=workflows.plain())
        assert reply.status == 200, reply.body
    output = reply.json()["outputs"][0]
    picture = curl(output["url"])
    assert (picture.status, picture.content_type) == (200, "image/png")
    check_unauthorized(curl(output["url"][:-1] + ("0" if output["url"][-1] != "0" else "1")))
    check_unauthorized(curl(output["url"].split("?")[0]))


def test_signed_urls_outlive_a_restart_but_not_their_token(binary, simulator):
    def content(token, url=None):
        process = Process(binary, "serve", "--port", 0, "--comfyui", simulator.url, "--token", token)
        try:
            if url is None:
                job = curl("-H", f"Authorization: Bearer {token}", f"{process.url}/run", data=workflows.plain()).json()
                return urlsplit(job["outputs"][0]["url"])
            return curl(f"{process.url}{url.path}?{url.query}").status
        finally:
            process.stop()

    url = content(TOKEN)
    assert content(TOKEN, url) in (200, 404), "the signature is known, whether or not the output still is"
    assert content(OTHER, url) == 401


def test_health_command_needs_no_token(binary, guarded):
    done = subprocess.run([binary, "health", "--url", f"{guarded.url}/api/v2/health"], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (0, "ok\n")


def test_signed_stream_is_read_by_curl(guarded):
    job = curl(*BEARER, f"{guarded.url}/api/v2/jobs?signed_events=1", data={"workflow": workflows.txt2img(steps=3, seed=5)}).json()
    stream = curl("-N", f"{guarded.url}{job['urls']['events']}&previews=url&last_event_id=0")
    events = stream.events()
    assert events[-1].data["status"] == "succeeded"
    ids = [int(event.id) for event in events if event.id]
    assert ids == list(range(1, len(ids) + 1))
    check_unauthorized(curl(f"{guarded.url}{job['urls']['events'].replace('signature=', 'signature=0')}"))


def test_tokens_and_signatures_are_in_no_log(binary, simulator):
    """All that is logged of requests that are right, wrong, cut off, and not even HTTP."""
    process = Process(binary, "serve", "--port", 0, "--comfyui", simulator.url, "--token", TOKEN, "--log-level", "trace")
    try:
        job = curl(*BEARER, f"{process.url}/api/v2/jobs?signed_events=1", data={"workflow": workflows.txt2img(steps=2, seed=6)}).json()
        events = f"{process.url}{job['urls']['events']}"
        stream = curl("-N", f"{events}&previews=url&last_event_id=0")
        secrets = {TOKEN, *re.findall(r"signature=([0-9a-f]{64})", events + stream.body.decode())}
        assert len(secrets) >= 3, "token, stream and output"
        for url in (events + "0", f"{process.url}/nothing?{events.split('?')[1]}", f"{events}&previews=no", f"{process.url}/run?{events.split('?')[1]}"):
            curl(url)
            curl(*BEARER, url)
            curl("-X", "POST", *BEARER, url, data={})
        authority = urlsplit(process.url).netloc
        for head in (
            f"GET {events} HTTP/1.1\r\nHost: {authority}\r\nAuthorization Bearer {TOKEN}\r\n\r\n",
            f"GET {urlsplit(events).path}?{urlsplit(events).query} HTTP/9.9\r\nHost: {authority}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n",
            f"GET /{'a' * 20_000}?{urlsplit(events).query} HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\n\r\n",
            f"Bearer {TOKEN}\r\n\r\n",
            f"POST /run?{urlsplit(events).query} HTTP/1.1\r\nHost: {authority}\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: x\r\n\r\n",
        ):
            subprocess.run(["curl", "-s", "--max-time", "5", f"telnet://{authority}"], input=head.encode(), capture_output=True, timeout=20)
    finally:
        process.stop()
    text = log(process)
    assert " libmicrohttpd" in text and "job queued" in text, "what could show a request is logged at all"
    for secret in secrets:
        assert secret not in text
    done = subprocess.run([binary, "--help"], capture_output=True, text=True, timeout=30, env={**os.environ, "COMFY_BRIDGE_TOKEN": TOKEN})
    assert TOKEN not in done.stdout


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_others_are_let_in_with_a_token_or_on_purpose(binary, simulator, host):
    message = refusal(binary, "--host", host)
    for way in ("--token", "--token-file", "--host 127.0.0.1", "--allow-insecure-bind"):
        assert way in message
    for arguments, warns in ((["--token", TOKEN], False), (["--allow-insecure-bind"], True)):
        process = Process(binary, "serve", "--port", 0, "--comfyui", simulator.url, "--host", host, *arguments)
        try:
            loopback = "[::1]" if host == "::" else "127.0.0.1"
            assert curl("-g", f"http://{loopback}:{urlsplit(process.url).port}/api/v2/health").status == 200
        finally:
            process.stop()
        assert log(process).count("no token is set") == warns


def test_start_is_refused_without_showing_the_token(binary, tmp_path):
    assert "short-secret" not in refusal(binary, "--token", "short-secret")
    assert "secret" not in refusal(binary, "--token", "a secret with spaces in it")
    assert "secret" not in refusal(binary, "--token", TOKEN, "secret-that-strayed")
    assert "secret" not in refusal(binary, COMFY_BRIDGE_TOKEN="a secret of the environment")
    assert "--token needs a value" in refusal(binary, "--token", "")
    empty = tmp_path / "empty"
    empty.write_text("# nothing\n")
    assert str(empty) in refusal(binary, "--token-file", empty)
    assert str(tmp_path / "missing") in refusal(binary, "--token-file", tmp_path / "missing")


def test_foreign_hosts_and_origins_are_refused(bridge):
    port = urlsplit(bridge).port
    for headers in (
        ["Host: evil.example"], [f"Host: evil.example:{port}"], ["Origin: https://evil.example"], ["Origin: null"], [f"Origin: http://localhost:{port}"],
        # The page of a name that was given this machine's address.
        [f"Host: evil.example:{port}", f"Origin: http://evil.example:{port}"],
    ):
        options = [option for header in headers for option in ("-H", header)]
        reply = curl(*options, "-H", "Content-Type: text/plain", f"{bridge}/run", data=workflows.plain())
        assert reply.status == 403, (headers, reply.body)
        assert reply.json()["error"]["code"] == "forbidden"
        assert "access-control-allow-origin" not in reply.headers
    for headers in (["Host: localhost"], [f"Host: comfy.local:{port}"], [f"Host: [::1]:{port}"], [f"Origin: {bridge}"]):
        assert curl("-H", *headers, f"{bridge}/run", data=workflows.plain()).status == 200
    assert curl("--resolve", f"evil.example:{port}:127.0.0.1", f"http://evil.example:{port}/openapi.yaml").status == 403


def test_preflight_and_answers_to_an_allowed_origin(guarded):
    origin = ("-H", "Origin: https://app.example.com")
    reply = curl(
        "-X", "OPTIONS", *origin, "-H", "Access-Control-Request-Method: POST", "-H", "Access-Control-Request-Headers: authorization,content-type,x-own",
        f"{guarded.url}/api/v2/jobs")
    assert (reply.status, reply.body) == (204, b"")
    assert reply.headers["access-control-allow-origin"] == "https://app.example.com"
    assert reply.headers["access-control-allow-headers"] == "authorization, content-type"
    assert "POST" in reply.headers["access-control-allow-methods"]
    for reply in (
        curl(*origin, f"{guarded.url}/api/v2/jobs", data={}),
        curl(*origin, *BEARER, "-H", "Accept: text/event-stream", f"{guarded.url}/run", data=workflows.plain()),
        curl(*origin, *BEARER, f"{guarded.url}/run", data=workflows.ui_format()),
    ):
        assert reply.headers["access-control-allow-origin"] == "https://app.example.com"
        assert "Comfy-Job-Id" in reply.headers["access-control-expose-headers"]
        assert reply.headers["vary"] == "Origin"


def test_what_callers_say_of_themselves_does_not_reach_comfyui(binary, simulator):
    with RecordingProxy(simulator.url) as proxy:
        process = Process(binary, "serve", "--port", 0, "--comfyui", proxy.url, "--token", TOKEN, "--cors-origin", "*")
        try:
            options = [*BEARER, "-H", "Origin: https://page.example", "-H", "Referer: https://page.example/x", "-H", "Cookie: session=1"]
            reply = curl(*options, f"{process.url}/run", data=workflows.every_kind())
            assert reply.status == 200, reply.body
            for output in reply.json()["outputs"]:
                curl(*options, output["url"])
        finally:
            process.stop()
        heads = proxy.heads()
        assert {head.split(" ")[0] for head in heads} >= {"GET", "POST"}
        assert any("/ws" in head and "upgrade: websocket" in head.lower() for head in heads)
        assert any(head.startswith("POST /prompt") for head in heads)
        assert any(head.startswith("GET /view") for head in heads)
        for head in heads:
            names = {line.split(":")[0].lower() for line in head.split("\r\n")[1:] if line}
            assert not names & {"origin", "referer", "cookie", "authorization"}, head
        assert b"page.example" not in proxy.sent() and TOKEN.encode() not in proxy.sent()
