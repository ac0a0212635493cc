"""HTTP and WebSocket (RFC 6455) as bare as they come: nothing is added, nothing is hidden. Standard library only."""

import asyncio
import base64
import os
import struct
import urllib.parse


class Gone(Exception):
    """The server is not there, or went away."""


async def _connect(url):
    address = urllib.parse.urlsplit(url)
    try:
        return await asyncio.open_connection(address.hostname, address.port or 80, limit=1 << 20)
    except OSError as error:
        raise Gone(type(error).__name__) from error


def _target(url, path, query):
    base = urllib.parse.urlsplit(url).path.rstrip("/")
    text = urllib.parse.urlencode(query, quote_via=urllib.parse.quote)
    # The path may hold what a client would not send, such as `..`.
    return base + urllib.parse.quote(path, safe="/%:@!$&'()*+,;=~.-_") + (f"?{text}" if text else "")


async def _head(reader):
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        if name:
            headers[name.strip().lower()] = value.strip()
    return int(lines[0].split()[1]), headers


async def http(url, method, path, query, headers, body):
    """Status, headers by their names in lower case, and body of one request."""
    reader, writer = await _connect(url)
    try:
        given = {"host": urllib.parse.urlsplit(url).netloc, "accept-encoding": "identity", "connection": "close", **headers}
        if body or method in ("POST", "PUT", "PATCH"):
            given["content-length"] = str(len(body))
        head = f"{method} {_target(url, path, query)} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in given.items())
        writer.write(head.encode("utf-8", "surrogateescape") + b"\r\n" + body)
        await writer.drain()
        status, got = await _head(reader)
        if method == "HEAD" or status in (204, 304):
            content = b""
        elif "chunked" in got.get("transfer-encoding", ""):
            content = b""
            while size := int(await reader.readline(), 16):
                content += await reader.readexactly(size)
                await reader.readexactly(2)
        elif "content-length" in got:
            content = await reader.readexactly(int(got["content-length"]))
        else:
            content = await reader.read()
        return status, got, content
    except (OSError, asyncio.IncompleteReadError) as error:
        raise Gone(type(error).__name__) from error
    finally:
        writer.close()


class WebSocket:
    """Iterates over messages: ("text", str) or ("binary", bytes)."""

    def __init__(self, reader, writer):
        self._in, self._out = reader, writer
        self.code = None
        self.closed_by_us = False
        self.is_closed = False
        self.reader = None
        """The task that reads."""

    @classmethod
    async def connect(cls, url, path, query):
        reader, writer = await _connect(url)
        key = base64.b64encode(os.urandom(16)).decode()
        writer.write((
            f"GET {_target(url, path, query)} HTTP/1.1\r\nHost: {urllib.parse.urlsplit(url).netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n").encode())
        status, _ = await _head(reader)
        if status != 101:
            raise Gone(f"the WebSocket was answered with {status}")
        return cls(reader, writer)

    async def _send(self, opcode, data):
        mask = os.urandom(4)
        size = bytes([0x80 | len(data)]) if len(data) < 126 else struct.pack("!BH", 0xFE, len(data)) if len(data) < 1 << 16 else struct.pack("!BQ", 0xFF, len(data))
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))
        self._out.write(bytes([0x80 | opcode]) + size + mask + masked)
        await self._out.drain()

    async def send(self, text):
        await self._send(1, text.encode())

    async def close(self):
        """Says goodbye and waits for the answer."""
        if self.is_closed:
            return
        self.closed_by_us = True
        try:
            await self._send(8, struct.pack("!H", 1000))
            await asyncio.wait_for(asyncio.shield(self.reader), 5)
        except (OSError, asyncio.TimeoutError):
            pass
        self._out.close()

    async def __aiter__(self):
        opcode, data = 0, b""
        try:
            while True:
                first, second = await self._in.readexactly(2)
                size = second & 0x7F
                if size == 126:
                    size, = struct.unpack("!H", await self._in.readexactly(2))
                elif size == 127:
                    size, = struct.unpack("!Q", await self._in.readexactly(8))
                payload = await self._in.readexactly(size)
                kind = first & 0x0F
                if kind == 8:
                    self.code = struct.unpack("!H", payload[:2])[0] if len(payload) > 1 else 1005
                    return
                if kind == 9:
                    await self._send(10, payload)
                elif kind < 3:
                    opcode, data = kind or opcode, (data if kind == 0 else b"") + payload
                    if first & 0x80:
                        yield ("text", data.decode()) if opcode == 1 else ("binary", data)
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            self.is_closed = True
