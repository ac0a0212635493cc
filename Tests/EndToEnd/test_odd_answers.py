"""ComfyUI answers a submit with something that is no answer: the caller is told, in the envelope, and nothing hangs."""

import socket
import threading
from urllib.parse import urlsplit

import pytest

import workflows
from http_client import curl
from processes import Process

PLAIN_500 = b"500 Internal Server Error\n\nServer got itself in trouble"
HTML = b"<html><body>Bad Gateway</body></html>"


def answer(status, content_type, body):
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


class SubmitProxy:
    """A TCP proxy before a ComfyUI that answers `POST /prompt` itself; everything else, the socket too, passes."""

    def __init__(self, upstream, reply):
        self.upstream = (urlsplit(upstream).hostname, urlsplit(upstream).port)
        self.reply = reply
        self.submits = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self.listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(self.upstream)
            threading.Thread(target=self._requests, args=(client, server), daemon=True).start()
            threading.Thread(target=self._copy, args=(server, client), daemon=True).start()

    def _requests(self, client, server):
        try:
            while data := client.recv(65536):
                if data.startswith(b"POST /prompt"):
                    self.submits += 1
                    head, _, body = data.partition(b"\r\n\r\n")
                    length = int(next(line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")))
                    while len(body) < length:
                        body += client.recv(65536)
                    client.sendall(self.reply)
                    break
                server.sendall(data)
        except OSError:
            pass  # either side went away
        for end in (client, server):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _copy(self, source, target):
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass
        try:
            target.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


@pytest.mark.parametrize(
    ("reply", "status", "code", "submits"),
    [
        (answer("500 Internal Server Error", "text/plain", PLAIN_500), 502, "upstream_error", 1),
        (answer("502 Bad Gateway", "text/html", HTML), 502, "upstream_error", 1),
        (answer("200 OK", "application/json", b'{"prompt_id": '), 502, "upstream_error", 1),
        (answer("400 Bad Request", "text/html", HTML), 502, "upstream_error", 1),
        (answer("413 Request Entity Too Large", "text/plain", b"Maximum request body size 104857600 exceeded."), 413, "payload_too_large", 1),
        # Nothing at all: ComfyUI does not have the prompt, so it is handed over again, a few times.
        (b"", 503, "upstream_unreachable", 5),
    ],
    ids=["plain 500", "a proxy's HTML", "cut JSON", "400 without a reason", "413", "no answer"],
)
def test_submit_gets_an_odd_answer(binary, simulator, reply, status, code, submits):
    proxy = SubmitProxy(simulator.url, reply)
    process = Process(binary, "serve", "--port", 0, "--comfyui", proxy.url)
    try:
        result = curl(f"{process.url}/run", data=workflows.plain(prefix="odd"))
        assert result.status == status, result.body
        error = result.json()["error"]
        assert error["code"] == code
        assert len(error["message"]) > 20
        assert "Traceback" not in error["message"]
        assert ("retry-after" in {name.lower() for name in result.headers}) == (status == 503)
        assert proxy.submits == submits
    finally:
        process.stop()
        proxy.close()
