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
                    other[end].sendall(data)
        except OSError:
            return
        finally:
            with self.lock:
                self.pairs.discard((client, server))
            client.close()
            server.close()
