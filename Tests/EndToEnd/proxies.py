"""TCP proxies that look into what passes, or break it off."""

import re
import select
import socket
import threading
from urllib.parse import urlsplit


class RecordingProxy:
    """Before a ComfyUI: keeps what the bridge sends to it."""

    def __init__(self, upstream):
        self.upstream = (urlsplit(upstream).hostname, urlsplit(upstream).port)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.connections = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()

    def heads(self):
        """The head of every request so far, from its request line on."""
        sent = [bytes(connection).decode("latin-1") for connection in self.connections]
        return [head for text in sent for head in re.findall(r"^(?:GET|POST|HEAD|DELETE) \S+ HTTP/1\.1\r\n(?:[^\r\n]+\r\n)*\r\n", text, re.MULTILINE)]

    def sent(self):
        """Everything so far."""
        return b"".join(map(bytes, self.connections))

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(self.upstream)
            record = bytearray()
            self.connections.append(record)
            threading.Thread(target=self._copy, args=(client, server, record), daemon=True).start()
            threading.Thread(target=self._copy, args=(server, client, None), daemon=True).start()

    def _copy(self, source, target, record):
        try:
            while data := source.recv(65536):
                if record is not None:
                    record += data
                target.sendall(data)
        except OSError:
            pass  # either side went away
        try:
            target.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


class CuttingProxy:
    """Passes connections on to the bridge, and can cut all that are open."""

    def __init__(self, target):
        host, port = target.removeprefix("http://").split(":")
        self.target = (host, int(port))
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.pairs = set()
        self.lock = threading.Lock()
        self.streams = 0
        self.received = bytearray()
        """What the bridge has sent."""
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()
        self.cut()

    def cut(self):
        with self.lock:
            pairs, self.pairs = self.pairs, set()
        for pair in pairs:
            for end in pair:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass   # the other side was faster

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            pair = (client, socket.create_connection(self.target))
            with self.lock:
                self.pairs.add(pair)
            threading.Thread(target=self._pass, args=pair, daemon=True).start()

    def _pass(self, client, server):
        other = {client: server, server: client}
        try:
            while True:
                for end in select.select([client, server], [], [])[0]:
                    data = end.recv(65536)
                    if not data:
                        return
                    if end is client and b"/events?" in data.split(b"\r\n")[0]:
                        self.streams += 1
                    if end is server:
                        self.received += data
                    other[end].sendall(data)
        except OSError:
            return
        finally:
            with self.lock:
                self.pairs.discard((client, server))
            client.close()
            server.close()


class PrefixProxy:
    """A proxy that has put the bridge below a path, and takes the path away from what it passes on, or leaves it. What is elsewhere is its own 404.

    One request a connection."""

    def __init__(self, prefix, strips=True):
        self.prefix = prefix.encode()
        self.strips = strips
        self.target = None
        """The bridge's URL; set once it is known, for the bridge is told this proxy's first."""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.origin = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.url = self.origin + prefix
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with client:
            head = b""
            while b"\r\n\r\n" not in head:
                data = client.recv(65536)
                if not data:
                    return
                head += data
            head, _, body = head.partition(b"\r\n\r\n")
            line, *fields = head.split(b"\r\n")
            method, path, version = line.split(b" ")
            if not path.startswith(self.prefix):
                client.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\nConnection: close\r\n\r\nelsewhere")
                return
            path = path.removeprefix(self.prefix) if self.strips else path
            fields = [field for field in fields if not field.lower().startswith(b"connection:")] + [b"Connection: close"]
            if not path.startswith(b"/"):
                path = b"/" + path
            with socket.create_connection((urlsplit(self.target).hostname, urlsplit(self.target).port)) as server:
                server.sendall(b"\r\n".join([b" ".join([method, path, version]), *fields, b"", b""]) + body)
                other = {client: server, server: client}
                try:
                    while True:
                        for end in select.select([client, server], [], [])[0]:
                            data = end.recv(65536)
                            if not data:
                                return
                            other[end].sendall(data)
                except OSError:
                    return
