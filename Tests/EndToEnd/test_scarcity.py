"""Too little of something: descriptors, disk. Who asks for it is told so, and everything else goes on."""

import os

import pytest

import workflows
from callers import Caller, until
from http_client import curl
from processes import Process


@pytest.fixture
def start(binary):
    started = []

    def start(*arguments, limits=None):
        simulator = Process(binary, "simulate", "--port", 0, "--step-delay", 20)
        started.append(simulator)
        bridge = Process(binary, "serve", "--port", 0, "--comfyui", simulator.url, *arguments, limits=limits)
        started.append(bridge)
        reply = curl(f"{bridge.url}/run", data=workflows.plain(prefix="first"))
        assert reply.status == 200, reply.body
        return bridge

    yield start
    for process in reversed(started):
        process.stop()


FILES = 200
CONNECTIONS = FILES - FILES // 4 - 64


def test_too_few_descriptors(start, tmp_path):
    """More callers than there are descriptors: some get an answer that says so, the rest waits; what is running, and new work over a
    connection that is there, needs further ones and gets them."""
    bridge = start("--data-dir", tmp_path / "data", limits={"nofile": FILES})
    assert f"connections={CONNECTIONS}" in bridge.text_of_log()
    worker = Caller(bridge.url, "GET", "/api/v2/health")
    worker.read_until(b"}")
    running = curl(f"{bridge.url}/api/v2/jobs", data={"workflow": workflows.txt2img(steps=100)}).json()["id"]
    crowd = [Caller(bridge.url, "GET", f"/api/v2/jobs/{running}/events?previews=none") for _ in range(2 * FILES)]
    try:
        answers = [caller.read_until(b"\r\n\r\n").split()[1] for caller in crowd[:CONNECTIONS]]
        assert answers.count(b"200") > CONNECTIONS // 2
        answer = crowd[CONNECTIONS + 20].read_all()
        assert b" 503 " in answer and b'"overloaded"' in answer and b"Retry-After: 1" in answer and str(CONNECTIONS).encode() in answer

        def ask(method, target, headers=None, body=b""):
            head = {"Host": "localhost", "Content-Length": len(body), **(headers or {})}
            text = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in head.items())
            worker.socket.sendall(text.encode() + b"\r\n" + body)
            head, _, body = worker.read_until(b"\r\n\r\n").partition(b"\r\n\r\n")
            length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
            while len(body) < length:
                body += worker.read()
            return int(head.split()[1]), body

        form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\nhello\r\n--x--\r\n'
        status, asset = ask("POST", "/api/v2/assets", {"Content-Type": "multipart/form-data; boundary=x"}, form)
        assert status == 201, asset
        target = asset.split(b'"url":"')[1].split(b'"')[0].decode().partition("/api")[2]
        assert ask("GET", f"/api{target}") == (200, b"hello")
        assert ask("POST", "/run", body=b'{"1": {"class_type": "SimOutput", "inputs": {"output": "{\\"text\\": [\\"hi\\"]}", "bytes": 0}}}')[0] == 200
        until(lambda: b'"succeeded"' in ask("GET", f"/api/v2/jobs/{running}")[1], f"the job of before is followed to its end: {bridge.text_of_log()}")
    finally:
        for caller in crowd:
            caller.reset()
    until(lambda: curl(f"{bridge.url}/api/v2/health").status == 200, "the crowd's going is noticed")


def noise(tmp_path, size):
    file = tmp_path / f"noise-{size}.bin"
    file.write_bytes(os.urandom(size))
    return file


def upload(bridge, file):
    return curl("-F", f"file=@{file}", f"{bridge.url}/api/v2/assets")


def parts(folder):
    return list(folder.glob("**/*.part"))


LIMIT = 8 << 20


def test_disk_that_takes_no_more(start, tmp_path, contract):
    """A file that may not grow (RLIMIT_FSIZE), which is to the process as a disk that is full."""
    data = tmp_path / "data"
    bridge = start("--data-dir", data, limits={"fsize": LIMIT})
    small = upload(bridge, noise(tmp_path, 50_000))
    assert small.status == 201
    refused = contract.check("POST", "/api/v2/assets", upload(bridge, noise(tmp_path, LIMIT + 1_000_000)))
    assert "disk is full" in contract.check_error(refused, 507, "insufficient_storage")["message"]
    until(lambda: parts(data) == [], "what there is of it is removed")
    assert "an upload could not be kept" in bridge.text_of_log()

    # Smaller things are written.
    assert curl(f"{bridge.url}/run", data=workflows.over_the_socket()).status == 200
    assert curl(small.json()["url"]).body == (tmp_path / "noise-50000.bin").read_bytes()
    assert upload(bridge, noise(tmp_path, 60_000)).status == 201


def test_folder_that_cannot_be_written(start, tmp_path, contract):
    """The folder of the contents is gone, as a disk that was unplugged, and comes back."""
    data = tmp_path / "data"
    bridge = start("--data-dir", data)
    kept = upload(bridge, noise(tmp_path, 1000)).json()
    (data / "blobs").rename(tmp_path / "away")
    refused = contract.check("POST", "/api/v2/assets", upload(bridge, noise(tmp_path, 2000)))
    contract.check_error(refused, 500, "internal_error")
    assert "an upload could not be kept" in bridge.text_of_log()
    assert "No such file or directory" in bridge.text_of_log()
    assert contract.check("GET", "/api/v2/assets/{id}/content", curl(kept["url"])).status == 404
    assert curl(f"{bridge.url}/run", data=workflows.plain()).status == 200, "what needs no disk goes on"
    picture = contract.check("POST", "/run", curl(f"{bridge.url}/run", data=workflows.over_the_socket()))
    assert "--data-dir" in contract.check_error(picture, 507, "insufficient_storage")["message"]
    assert curl(f"{bridge.url}{picture.headers['location']}").json()["status"] == "failed"
    assert "a result could not be written" in bridge.text_of_log()
    (tmp_path / "away").rename(data / "blobs")
    assert curl(kept["url"]).body == (tmp_path / "noise-1000.bin").read_bytes()
    assert upload(bridge, noise(tmp_path, 2000)).status == 201
