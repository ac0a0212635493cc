"""Callers of the bridge as bare sockets: they stop reading, close, or are gone without a word."""

import json
import socket
import struct
import time
from urllib.parse import urlsplit

TCP_REPAIR = 19


class Caller:
    """One connection with one request on it."""

    def __init__(self, url, method="GET", target="/", headers=None, body=None, receive_buffer=None):
        address = urlsplit(url)
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(60)
        self.socket.connect((address.hostname, address.port))
        body = json.dumps(body).encode() if isinstance(body, dict) else body or b""
        head = {"Host": address.netloc, "Content-Length": str(len(body)) if body else None, **(headers or {})}
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items() if value is not None)]
        self.socket.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def read(self, size=65536):
        return self.socket.recv(size)

    def read_until(self, text):
        """Everything up to and with the text."""
        data = b""
        while text not in data:
            piece = self.read()
            assert piece, f"closed before {text!r}: {data[-500:]!r}"
            data += piece
        return data

    def read_all(self):
        data = bytearray()
        while piece := self.read():
            data += piece
        return bytes(data)

    def close(self):
        """Says goodbye (FIN)."""
        self.socket.close()

    def reset(self):
        """RST, as a process that dies with unread data."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def vanish(self):
        """Not a word, as a machine that loses power; what is sent to it later is answered with RST. Needs the right to administer the network,
        else it is a `reset`."""
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
        except PermissionError:
            self.reset()
        else:
            self.socket.close()


PATIENCE = 45
"""Seconds; nearly all of it is for machines that are busy. Below a minute, after which idle connections are closed in any case."""


def until(condition, what):
    """Asks until it is so."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE} s"
        time.sleep(0.02)
