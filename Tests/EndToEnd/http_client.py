"""The real curl, and a reader of event streams."""

import json
import subprocess
import tempfile
from dataclasses import dataclass, field

MAXIMUM_TIME = 60


@dataclass
class Reply:
    status: int
    headers: dict
    body: bytes
    arguments: list = field(repr=False)

    @property
    def content_type(self):
        return self.headers.get("content-type", "").split(";")[0].strip()

    def json(self):
        return json.loads(self.body)

    def events(self):
        return parse_events(self.body.decode())


def curl(*arguments, data=None):
    """Runs curl to its end. `data`: the body, a dict (as JSON) or bytes, handed over on standard input."""
    with tempfile.NamedTemporaryFile() as head:
        command = ["curl", "-sS", "--max-time", str(MAXIMUM_TIME), "-D", head.name, *arguments]
        if data is not None:
            command += ["--data-binary", "@-"]
            data = data if isinstance(data, bytes) else json.dumps(data).encode()
        done = subprocess.run(command, input=data, capture_output=True, timeout=MAXIMUM_TIME + 10)
        text = head.read().decode("latin-1")
    assert done.returncode == 0, f"curl ended with {done.returncode}: {done.stderr.decode()} ({' '.join(command)})"
    status, headers = parse_head(text)
    return Reply(status, headers, done.stdout, command)


def parse_head(text):
    """Status and headers of the last answer; `100 Continue` may come before it."""
    block = [block for block in text.replace("\r\n", "\n").split("\n\n") if block.strip()][-1].split("\n")
    headers = {}
    for line in block[1:]:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return int(block[0].split()[1]), headers


@dataclass
class Event:
    type: str
    data: object
    id: str | None


def parse_events(text):
    """The events of a whole stream, after the rules of the HTML standard, but with the id only where the frame has one."""
    return [event for event in map(_parse_frame, text.split("\n\n")) if event]


def _parse_frame(frame):
    type_, data, id_ = "message", [], None
    for line in frame.split("\n"):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            type_ = value
        elif name == "data":
            data.append(value)
        elif name == "id":
            id_ = value
    return Event(type_, json.loads("\n".join(data)), id_) if data else None


class Stream:
    """`curl -N` while it runs: events one by one, as they come."""

    def __init__(self, *arguments, data=None):
        command = ["curl", "-sSN", "--max-time", str(MAXIMUM_TIME), *arguments]
        if data is not None:
            command += ["--data-binary", json.dumps(data)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def __iter__(self):
        frame = ""
        for line in self.process.stdout:
            if line != "\n":
                frame += line
                continue
            event = _parse_frame(frame)
            frame = ""
            if event:
                yield event

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.hang_up()

    def hang_up(self):
        """Goes away as a caller does whose process ends."""
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
