"""What the commands say when something is wrong with how they are called, or with what they call."""

import os
import re
import socket
import subprocess
import time

import pytest

import workflows
from http_client import curl
from processes import Process

RAW = re.compile(r"descriptor:|errno: |NIO|HTTPClientError|Error Domain|IOError|\.swift|\bError\(")
LOG_LINE = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (trace|debug|info|notice|warning|error|critical) [\w-]+:.* \[\w+\] \S")


def call(binary, *arguments, **environment):
    done = subprocess.run(
        [binary, *map(str, arguments)], capture_output=True, text=True, timeout=30, env={**os.environ, "COMFY_BRIDGE_DATA_DIR": "none", **environment})
    assert not RAW.search(done.stderr), done.stderr
    return done


@pytest.fixture
def taken():
    """A port on which somebody listens who says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def free():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.mark.parametrize("arguments", [
    ("serve", "--port", "1", "--port", "2"), ("--token-file", "a", "--token-file", "b"), ("serve", "--allow-insecure-bind", "--allow-insecure-bind=false"),
    ("simulate", "--port=1", "--port", "1"), ("simulate", "--log-level", "debug", "--log-level", "info"), ("health", "--url", "http://a", "--url", "http://b"),
])
def test_what_has_one_value_cannot_be_given_twice(binary, arguments):
    done = call(binary, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"comfy-bridge: --[\w-]+ is given more than once, and takes one value; leave one of them\.\n", done.stderr), done.stderr


@pytest.mark.parametrize("command", ["serve", "simulate"])
def test_a_port_that_is_taken(binary, taken, command):
    done = call(binary, command, "--port", taken)
    assert done.returncode == 1
    assert f"port {taken}" in done.stderr and "address already in use" in done.stderr and "choose another with --port" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["serve", "simulate"])
@pytest.mark.parametrize("host", ["no-such-host.invalid", "203.0.113.7"])
def test_a_host_that_is_not_here(binary, command, host):
    extra = ["--allow-insecure-bind"] if command == "serve" else []
    done = call(binary, command, "--host", host, "--port", 0, *extra)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert host in last and "--host" in last, last


def test_health_says_what_is_wrong(binary, free, taken, bridge):
    done = call(binary, "health", "--url", f"http://me:secret@127.0.0.1:{free}/x")
    assert (done.returncode, done.stderr) == (
        1, f"comfy-bridge: http://127.0.0.1:{free}/x cannot be asked: connection refused. Is the bridge running, and is this its address (--url)?\n")
    done = call(binary, "health", "--url", f"http://127.0.0.1:{taken}/x")
    assert done.returncode == 1 and "no answer in time" in done.stderr
    done = call(binary, "health", "--url", "http://no-such-host.invalid/x")
    assert done.returncode == 1 and "the name no-such-host.invalid cannot be resolved" in done.stderr
    done = call(binary, "health", "--url", bridge.replace("http://", "https://"))
    # Which of the two depends on what comes first: the bridge's 400, or its hanging up.
    assert done.returncode == 1 and ("does not speak TLS" in done.stderr or "closed the connection during the TLS handshake" in done.stderr)
    done = call(binary, "health", "--url", f"{bridge}/nothing")
    assert (done.returncode, done.stderr) == (1, f"comfy-bridge: {bridge}/nothing answers with status 404.\n")
    for url in ["localhost:8189", "ftp://localhost/", "http://", "/api/v2/health", "x"]:
        done = call(binary, "health", "--url", url)
        assert done.returncode == 2 and f"--url '{url}' is no address" in done.stderr, done.stderr


def test_kubernetes_may_call_its_service_comfy_bridge(binary):
    links = {
        "COMFY_BRIDGE_PORT": "tcp://10.0.0.1:8189", "COMFY_BRIDGE_PORT_8189_TCP": "tcp://10.0.0.1:8189", "COMFY_BRIDGE_PORT_8189_TCP_ADDR": "10.0.0.1",
        "COMFY_BRIDGE_SERVICE_HOST": "10.0.0.1", "COMFY_BRIDGE_SERVICE_PORT": "8189"}
    mistakes = {"COMFY_BRIDGE_TOKN": "secret-of-mine", "COMFY_BRIDGE_STEP_DELAY": "3"}
    for command in ["serve", "simulate"]:
        process = Process(binary, command, "--port", 0, environment={**links, **mistakes})
        try:
            warnings = [line for line in process.text_of_log().splitlines() if "COMFY_BRIDGE_" in line]
            assert len(warnings) == 1 and "COMFY_BRIDGE_TOKN" in warnings[0] and "is COMFY_BRIDGE_TOKEN meant?" in warnings[0], warnings
            assert "secret-of-mine" not in process.text_of_log()
            # It has got so far that it stops when it is told to.
            assert curl(f"{process.url}/api/v2/health" if command == "serve" else f"{process.url}/queue").status == 200
        finally:
            process.stop()
    done = call(binary, "serve", COMFY_BRIDGE_PORT="8189x")
    assert done.returncode == 2 and done.stderr.startswith("comfy-bridge: COMFY_BRIDGE_PORT is '8189x'; it must be")


def test_headers_for_comfyui_are_in_no_log(binary, simulator, tmp_path):
    """Not even with everything in it that the libraries have to say."""
    file = tmp_path / "headers"
    file.write_text("X-File: file-marker\n")
    bridge = Process(
        binary, "serve", "--port", 0, "--comfyui", simulator.url, "--comfyui-header", "X-Api-Key: key-marker", "--comfyui-header-file", file,
        "--log-level", "trace")
    try:
        assert curl(f"{bridge.url}/run", data=workflows.plain()).status == 200
        log = bridge.text_of_log()
        assert " trace " in log or " debug " in log, log
        assert "-marker" not in log
    finally:
        bridge.stop()


def test_callers_forge_no_lines_of_the_log_and_are_not_the_store(binary, simulator):
    bridge = Process(binary, "serve", "--port", 0, "--comfyui", simulator.url, "--log-level", "debug")
    try:
        path = "/x%0a2026-11-30T00:00:00.000Z%20critical%20comfy-bridge:%20%5bBridge%5d%20forged%0d%1b%5b31m%e2%80%a8%c2%85"
        assert curl(f"{bridge.url}{path}").status == 404
        # Half of an upload.
        host, port = bridge.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            head = f"POST /api/v2/assets HTTP/1.1\r\nHost: {host}\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 10000000\r\n\r\n"
            body = '--b\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n' + "x" * 1_000_000
            connection.sendall((head + body).encode())
        deadline = time.monotonic() + 60
        while not re.search(r'comfy_bridge_http_requests_total\{[^}]*route="/api/v2/assets"[^}]*status="499"[^}]*\} 1', curl(f"{bridge.url}/metrics").body.decode()):
            assert time.monotonic() < deadline, curl(f"{bridge.url}/metrics").body.decode()
        lines = bridge.text_of_log().split("\n")[:-1]
        for line in lines:
            assert LOG_LINE.match(line), line
        assert any(r"/x\n2026-11-30T00:00:00.000Z critical comfy-bridge: [Bridge] forged\r\u{1b}[31m\u{2028}\u{85}" in line for line in lines)
        assert not [line for line in lines if re.match(r"\S+ (error|critical) ", line) or "upload" in line]
    finally:
        bridge.stop()
