"""Plays recordings against a ComfyUI and writes down what it answers, in the same format. See scripts/record."""

import argparse
import asyncio
import base64
import contextlib
import json
import os
import pathlib
import re
import signal
import struct
import sys
import time
import urllib.parse

from connections import Gone, WebSocket, http

RECORDINGS = pathlib.Path(__file__).resolve().parent.parent / "ComfyUITests/Recordings"

ASKS_FOR_SIGNAL = {"gets SIGINT": signal.SIGINT, "gets SIGTERM": signal.SIGTERM, "gets SIGKILL": signal.SIGKILL}

NEEDS = {
    "assets_enabled": "a ComfyUI started with --enable-assets --enable-asset-hashing",
    "cache_across_prompts_bigmem": "a ComfyUI started with --cache-ram 2 1",
    "cache_ram_pressure": "a ComfyUI started with --cache-ram 1000 1000",
    "txt2img_ksampler": "--checkpoint, a model of the SD1.5 kind",
    "preview_method_per_prompt": "--checkpoint, a model of the SD1.5 kind",
    "slow_reader": "a second client that never reads, which is not in the recording",
    "server_restart": "--pid and --start; ComfyUI is killed and started again",
    "server_stop_sigint": "--pid; ComfyUI ends",
    "server_stop_sigterm": "--pid; ComfyUI ends",
    "server_crash_bad_output": "nothing else, but ComfyUI ends",
    "worker_thread_dead": "nothing else, but ComfyUI runs nothing any more",
}
"""Scenarios that are played only when they are named."""

PATIENCE = 20
"""Seconds for messages that came in the recording and may not come now."""

LONGEST_PAUSE = 10

SMALL_MODELS = {
    "obj": b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n",
    "glb": struct.pack("<4sIIII", b"glTF", 2, 64, 44, 0x4E4F534A) + b'{"asset":{"version":"2.0"}}'.ljust(44),
}

KEPT_HEADERS = {
    "content-type", "content-length", "content-disposition", "content-range", "content-encoding", "etag", "last-modified", "accept-ranges", "cache-control",
    "vary", "transfer-encoding", "allow", "x-content-type-options", "content-security-policy",
}


class Scenario:
    """One recording, played again."""

    def __init__(self, events, server, options):
        self.events = events
        self.server = server
        self.options = options
        self.began = time.monotonic()
        self.lines = []
        self.sockets = {}
        self.seen = {}
        """Messages by connection: as many as came by now, progress left out, whose number depends on time."""
        self.names = {}
        """What the recorded server called something, and what this one does."""
        self.answers = {event["id"]: event for event in events if event["ev"] in ("http_response", "http_error")}
        self.requests = []

    def now(self):
        return round((time.monotonic() - self.began) * 1000, 2)

    def write(self, event):
        self.lines.append(event)

    async def play(self):
        head = {**self.events[0], "comfyui_version": self.server.version, "server_args": self.server.arguments}
        self.write(head)
        due = {}
        """How many messages had come in the recording, by connection."""
        recorded = []
        last = 0
        for event in self.events[1:]:
            kind = event["ev"]
            if kind == "ws_recv":
                if is_steady(event):
                    due[event["conn"]] = due.get(event["conn"], 0) + 1
                recorded.append(event)
                continue
            if kind in ("http_response", "http_error"):
                continue
            await self.catch_up(due, pause=min(LONGEST_PAUSE, max(0, event["ms"] - last) / 1000))
            last = event["ms"]
            await getattr(self, kind)(event)
            self.match(recorded)
        await self.catch_up(due, pause=0.2)
        await asyncio.gather(*self.requests)
        for socket in self.sockets.values():
            await socket.close()
        self.lines[1:] = sorted(self.lines[1:], key=lambda line: line["ms"])

    async def prepare(self):
        """Files that the recorded server had from before: those that are fetched without having been made, and models that graphs load."""
        told, files = "", {}
        requests = {event["id"]: event for event in self.events if event["ev"] == "http_request"}
        for event in self.events:
            told += event.get("text", "") if event["ev"] == "ws_recv" else event.get("body_text", "") if event["ev"] == "http_response" else ""
            if event["ev"] == "http_request" and event["path"].endswith("/prompt"):
                for name in re.findall(r'"model_file": "([^"]+\.(?:glb|obj))"', event.get("body_text", "")):
                    files["input", name] = SMALL_MODELS[name[-3:]]
            if event["ev"] == "http_response" and event["status"] == 200 and event["body_len"] and requests[event["id"]]["path"].endswith("/view"):
                query = requests[event["id"]]["query"]
                name = query.get("filename", "")
                plain = not {"preview", "channel"} & query.keys() and not re.search(r"/|\.\.| \[\w+\]$", name)
                if plain and json.dumps(name)[1:-1] not in told:
                    body = base64.b64decode(event["body_base64"]) if "body_base64" in event else event["body_text"].encode()
                    files[query.get("type", "output"), f"{query.get('subfolder', '')}/{name}".lstrip("/")] = body
        for (folder, path), content in files.items():
            subfolder, _, name = path.rpartition("/")
            if not await self.server.upload(folder, subfolder, name, content):
                print(f"      {path}: could not be put into the {folder} folder")

    async def catch_up(self, due, pause):
        """Until everything has come that had come in the recording, and no earlier than there."""
        begin = time.monotonic()
        while time.monotonic() - begin < PATIENCE:
            behind = any(self.seen.get(name, 0) < count for name, count in due.items() if name in self.sockets and not self.sockets[name].is_closed)
            waiting = [task for task in self.requests if not task.done()]
            if not behind and not waiting and time.monotonic() - begin >= pause:
                return
            await asyncio.sleep(0.005)
        self.write({"ms": self.now(), "ev": "note", "text": "fewer messages came than in the recording that was played"})
        for name, count in due.items():
            self.seen[name] = max(count, self.seen.get(name, 0))

    # MARK: What the client did

    async def note(self, event):
        self.write({**event, "ms": self.now()})
        for words, number in ASKS_FOR_SIGNAL.items():
            if words in event["text"]:
                os.kill(self.options.pid, number)
        if "started again" in event["text"]:
            process = await asyncio.create_subprocess_shell(self.options.start)
            if await process.wait() != 0:
                sys.exit(f"'{self.options.start}' failed")

    async def ws_open(self, event):
        opened = self.now()
        socket = await WebSocket.connect(self.server.url, self.ours(event["path"]), event["query"])
        self.sockets[event["conn"]] = socket
        self.write({**event, "ms": opened, "status": 101, "ms_open": self.now()})
        socket.reader = asyncio.create_task(self.read(event["conn"], socket))

    async def read(self, name, socket):
        async for kind, data in socket:
            line = {"ms": self.now(), "ev": "ws_recv", "conn": name, "kind": kind}
            line |= {"text": self.hidden(data)} if kind == "text" else {"base64": base64.b64encode(data).decode(), "len": len(data)}
            self.write(line)
            if is_steady(line):
                self.seen[name] = self.seen.get(name, 0) + 1
        if not socket.closed_by_us:
            self.write({"ms": self.now(), "ev": "ws_close", "conn": name, "by": "server", "code": socket.code or 1006})

    async def ws_send(self, event):
        await self.sockets[event["conn"]].send(event["text"])
        self.write({**event, "ms": self.now()})

    async def ws_close(self, event):
        socket = self.sockets[event["conn"]]
        if event["by"] == "client":
            await socket.close()
            self.write({**event, "ms": self.now(), "code": socket.code or 1006})
        else:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.shield(socket.reader), PATIENCE)

    async def http_request(self, event):
        task = asyncio.create_task(self.exchange(event))
        self.requests.append(task)
        # Some requests are answered only after others were sent.
        answer = self.answers.get(event["id"])
        following = next((other for other in self.events if other["ms"] > event["ms"] and other["ev"] in ("http_request", "ws_open", "ws_close", "note")), None)
        if not (answer and following and answer["ms"] > following["ms"]):
            await task

    async def exchange(self, event):
        body = base64.b64decode(event["body_base64"]) if "body_base64" in event else event.get("body_text", "").encode()
        sent = {**event, "ms": self.now(), "path": self.ours(event["path"]), "query": {name: self.ours(value) for name, value in event["query"].items()}}
        if "body_base64" not in event:
            body = self.checkpoint(self.ours(body.decode())).encode()
            if body:
                sent["body_text"] = body.decode()
        sent["body_len"] = len(body)
        headers = {name: self.ours(self.at_port(value)) for name, value in event["headers"].items()}
        sent["headers"] = headers
        self.write(sent)
        name = {"id": event["id"], "client": event["client"]}
        try:
            status, got, content = await http(self.server.url, event["method"], sent["path"], sent["query"], headers, body)
        except Gone as error:
            self.write({"ms": self.now(), "ev": "http_error", **name, "error": str(error)})
            return
        line = {"ms": self.now(), "ev": "http_response", **name, "status": status, "headers": {key: value for key, value in got.items() if key in KEPT_HEADERS or key.startswith("access-control-")}}
        line["body_len"] = len(content)
        type_ = got.get("content-type", "")
        if content:
            is_text = type_.startswith(("application/json", "text/")) and event["path"].rsplit("/", 1)[-1] != "view"
            line |= {"body_text": self.hidden(content.decode())} if is_text else {"body_base64": base64.b64encode(content).decode()}
        self.write(line)
        self.learn(self.answers.get(event["id"]), line)

    # MARK: Names

    def ours(self, text):
        for theirs, name in self.names.items():
            text = text.replace(theirs, name)
        return text

    def at_port(self, value):
        return re.sub(r":8[12]90\b", f":{self.server.port}", value)

    def checkpoint(self, text):
        return text.replace("random-sd15.safetensors", self.options.checkpoint) if self.options.checkpoint else text

    def hidden(self, text):
        for path, name in self.server.paths:
            text = text.replace(path, name)
        return text

    def learn(self, theirs, ours):
        if not theirs or theirs["ev"] != "http_response":
            return
        for header in ("etag", "last-modified"):
            if header in theirs["headers"] and header in ours["headers"]:
                self.call(theirs["headers"][header], ours["headers"][header])
        with contextlib.suppress(ValueError, KeyError):
            self.compare(json.loads(theirs["body_text"]), json.loads(ours["body_text"]))

    def match(self, recorded):
        """Finds for each message about a node's result the one that came now."""
        mine = {}
        for line in self.lines:
            if line["ev"] == "ws_recv" and line["kind"] == "text" and '"executed"' in line["text"]:
                data = json.loads(line["text"]).get("data", {})
                mine.setdefault((data.get("prompt_id"), data.get("node")), data.get("output"))
        for event in recorded:
            if event["kind"] == "text" and '"executed"' in event["text"]:
                data = json.loads(event["text"]).get("data", {})
                key = (self.ours(str(data.get("prompt_id"))), data.get("node"))
                if key in mine:
                    self.compare(data.get("output"), mine[key])
        recorded.clear()

    def compare(self, theirs, ours):
        if isinstance(theirs, dict) and isinstance(ours, dict):
            for key in theirs.keys() & ours.keys() - {"preview_output"}:  # of whichever node was first
                self.compare(theirs[key], ours[key])
        elif isinstance(theirs, list) and isinstance(ours, list):
            for pair in zip(theirs, ours):
                self.compare(*pair)
        elif isinstance(theirs, str) and isinstance(ours, str) and re.fullmatch(r"[0-9a-f-]{36}|[^/ ]+\.[a-z0-9]{2,6}", theirs):
            self.call(theirs, ours)

    def call(self, theirs, ours):
        if theirs != ours and len(theirs) > 5:
            self.names.setdefault(theirs, ours)


def is_steady(event):
    """Not among the messages whose number depends on time."""
    return event["kind"] == "text" and not re.match(r'\{"type": "(progress|progress_state|logs|assets\.seed\.\w+)"', event["text"])


class Server:
    def __init__(self, url, version, arguments, paths):
        self.url, self.version, self.arguments, self.paths = url, version, arguments, paths
        self.port = urllib.parse.urlsplit(url).port or 80

    @classmethod
    async def ask(cls, url):
        _, _, body = await http(url, "GET", "/system_stats", {}, {}, b"")
        system = json.loads(body)["system"]
        folders = dict(zip(system["argv"], system["argv"][1:]))
        paths = [(folders[f"--{name}-directory"], f"<{name}>") for name in ("output", "input", "user") if f"--{name}-directory" in folders]
        if "--temp-directory" in folders:
            paths.append((folders["--temp-directory"] + "/temp", "<temp>"))
        shown = [word if not word.startswith("/") else "<path>" for word in system["argv"][1:]]
        return cls(url, system["comfyui_version"], shown, paths)

    async def learn_paths(self):
        """Tracebacks name the folders of ComfyUI and of its Python."""
        graph = {
            "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}},
            "2": {"class_type": "RecRaise", "inputs": {"image": ["1", 0], "steps": 0, "message": "where am I"}},
            "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
        }
        status, _, body = await http(self.url, "POST", "/prompt", {}, {"content-type": "application/json"}, json.dumps({"prompt": graph, "client_id": "record"}).encode())
        if status != 200:
            sys.exit(f"The test nodes are missing in this ComfyUI: link {pathlib.Path(__file__).parent / 'comfy_bridge_nodes'} into its custom_nodes and start it again. It said: {body[:300].decode()}")
        prompt = json.loads(body)["prompt_id"]
        while not (entry := json.loads((await http(self.url, "GET", f"/history/{prompt}", {}, {}, b""))[2]).get(prompt)):
            await asyncio.sleep(0.05)
        text = json.dumps(entry)
        for pattern, name in ((r'File \\"([^"]*?)/execution\.py', "<comfyui>"), (r'File \\"([^"]*?)/lib/python3', "<venv>")):
            if found := re.search(pattern, text):
                self.paths.append((found[1], name))
        self.paths.append((str(pathlib.Path(__file__).resolve().parent), "<lab>"))

    async def upload(self, folder, subfolder, name, content):
        boundary = "comfy-bridge-record"
        parts = {"type": folder, "subfolder": subfolder, "overwrite": "true"}
        text = "".join(f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n' for key, value in parts.items())
        quoted = name.replace('\\', '\\\\').replace('"', '\\"')
        text += f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{quoted}"\r\nContent-Type: application/octet-stream\r\n\r\n'
        body = text.encode() + content + f"\r\n--{boundary}--\r\n".encode()
        return (await http(self.url, "POST", "/upload/image", {}, {"content-type": f"multipart/form-data; boundary={boundary}"}, body))[0] == 200

    async def clear(self):
        """No queue, no history, no cached results."""
        json_ = {"content-type": "application/json"}
        await http(self.url, "POST", "/queue", {}, json_, b'{"clear": true}')
        await http(self.url, "POST", "/interrupt", {}, json_, b"{}")
        while json.loads((await http(self.url, "GET", "/queue", {}, {}, b""))[2])["queue_running"]:
            await asyncio.sleep(0.05)
        await http(self.url, "POST", "/history", {}, json_, b'{"clear": true}')
        await http(self.url, "POST", "/free", {}, json_, b'{"unload_models": true, "free_memory": true}')
        await asyncio.sleep(0.2)


def shape(value):
    """What stays the same over runs: the keys, and the kinds of the values."""
    if isinstance(value, dict):
        return {key if not re.fullmatch(r"[0-9a-f-]{36}", key) else "<id>": shape(member) for key, member in value.items()}
    if isinstance(value, list):
        return sorted({json.dumps(shape(member), sort_keys=True) for member in value})
    return "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__


def changed_places(old, new, place=""):
    """Where two shapes differ, and how."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            if key not in new:
                yield f"{place}.{key} is gone"
            elif key not in old:
                yield f"{place}.{key} is new"
            else:
                yield from changed_places(old[key], new[key], f"{place}.{key}")
    elif isinstance(old, list) and isinstance(new, list):
        gone, came = ([json.loads(text) for text in sorted(set(left) - set(right))] for left, right in ((old, new), (new, old)))
        if len(gone) == len(came):
            for pair in zip(gone, came):
                yield from changed_places(*pair, f"{place}[]")
        else:
            yield f"{place}[] has {len(new)} kinds of items instead of {len(old)}"
    elif old != new:
        yield f"{place} was {old if isinstance(old, str) else type(old).__name__} and is {new if isinstance(new, str) else type(new).__name__}"


def differences(recorded, played):
    """What a person wants to look at: other statuses, headers, and kinds and keys of messages."""
    found = []

    def messages(lines):
        kinds = {}
        for line in lines:
            if line["ev"] != "ws_recv":
                continue
            if line["kind"] == "binary":
                kinds.setdefault(f"binary {int.from_bytes(base64.b64decode(line['base64'])[:4])}", "")
                continue
            message = json.loads(line["text"])
            kinds.setdefault(message["type"], set()).add(json.dumps(sorted(message["data"]) if isinstance(message["data"], dict) else None))
        return kinds

    before, now = messages(recorded), messages(played)
    for kind in sorted(before.keys() | now.keys()):
        if kind not in now:
            found.append(f"message {kind}: does not come any more")
        elif kind not in before:
            found.append(f"message {kind}: new, with {' or '.join(sorted(now[kind])) or 'bytes'}")
        elif before[kind] != now[kind]:
            found.append(f"message {kind}: {' or '.join(sorted(before[kind]))} became {' or '.join(sorted(now[kind]))}")
    answers = {line["id"]: line for line in played if line["ev"] in ("http_response", "http_error")}
    requests = {line["id"]: line for line in played if line["ev"] == "http_request"}
    for old in recorded:
        if old["ev"] != "http_response":
            continue
        new, request = answers.get(old["id"], {}), requests.get(old["id"], {})
        label = f"{request.get('method')} {request.get('path')} ({old['id']})"
        if new.get("status") != old["status"]:
            found.append(f"{label}: {old['status']} became {new.get('status', new.get('error'))}")
            continue
        if old["headers"].keys() != new["headers"].keys():
            found.append(f"{label}: headers {sorted(old['headers'].keys() ^ new['headers'].keys())}")
        with contextlib.suppress(ValueError, KeyError):
            shapes = [shape(json.loads(line["body_text"])) for line in (old, new)]
            if shapes[0] != shapes[1]:
                found.append(f"{label}: " + "; ".join(list(changed_places(*shapes))[:5]))
    return found


async def main():
    parser = argparse.ArgumentParser(prog="scripts/record", description=__doc__)
    parser.add_argument("url", help="of the ComfyUI, as http://127.0.0.1:8188")
    parser.add_argument("scenario", nargs="*", help="which ones; without, all that need nothing special")
    parser.add_argument("--from", dest="source", type=pathlib.Path, help="folder of the recordings that are played; without, the newest version's")
    parser.add_argument("--out", type=pathlib.Path, help="folder to write to; without, out/recordings/VERSION")
    parser.add_argument("--checkpoint", help="model that stands for random-sd15.safetensors")
    parser.add_argument("--pid", type=int, help="ComfyUI's process, for scenarios that stop it")
    parser.add_argument("--start", help="command that starts ComfyUI again and ends when it is ready")
    options = parser.parse_intermixed_args()
    versions = sorted(RECORDINGS.glob("v[0-9]*"), key=lambda path: [int(part) for part in path.name[1:].split(".")])
    source = options.source or versions[-1]
    names = options.scenario or sorted(path.stem for path in source.glob("*.jsonl") if path.stem not in NEEDS)
    url = options.url.rstrip("/")
    server = await Server.ask(url)
    scenarios = {name: (source / f"{name}.jsonl").read_text() for name in names}
    if any('class_type\\": \\"Rec' in text for text in scenarios.values()):
        await server.learn_paths()
    out = options.out or RECORDINGS.parent.parent.parent / "out/recordings" / server.version
    out.mkdir(parents=True, exist_ok=True)
    print(f"ComfyUI {server.version} at {url}; scenarios of {source.name} into {out}")
    if not options.scenario:
        for name, need in sorted(NEEDS.items()):
            if (source / f"{name}.jsonl").exists():
                print(f"  left out: {name} (name it; it needs {need})")
    for name, text in scenarios.items():
        recorded = [json.loads(line) for line in text.splitlines()]
        with contextlib.suppress(Gone):
            await server.clear()
        scenario = Scenario(recorded, server, options)
        await scenario.prepare()
        await scenario.play()
        (out / f"{name}.jsonl").write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in scenario.lines))
        found = differences(recorded, scenario.lines)
        print(f"  {name}: {'same' if not found else f'{len(found)} differences'}", flush=True)
        for line in found[:20]:
            print(f"      {line[:300]}")


if __name__ == "__main__":
    asyncio.run(main())
