"""Readers of event streams that people use, each in its own way, brought to one form: `Event(type, data, id)` one by one.

Each function takes the address, further headers, and the body of a POST or nothing. A break of the connection ends the events. An answer that is
no stream is `Refused`.
"""

import contextlib
import json

import aiohttp
import httpx
import httpx_sse
import openai
import requests
import sseclient
from aiohttp_sse_client.client import EventSource

from http_client import Event
from sdk_clients import EventLoop

TOKEN = "token-that-nobody-asks-for"


class Refused(Exception):
    """The status of what came instead of a stream, and its text where the client shows it."""

    def __init__(self, status, text=""):
        super().__init__(status, text)
        self.status = status
        self.text = text


def _method(body):
    return "GET" if body is None else "POST"


def _event(type_, data, id_):
    # An empty event would fail here, as it does for whoever uses these clients.
    return Event(type_, json.loads(data), id_ or None)


def with_httpx_sse(url, headers, body=None):
    with httpx.Client(timeout=60) as client, httpx_sse.connect_sse(client, _method(body), url, headers=headers, json=body) as source:
        try:
            for event in source.iter_sse():
                yield _event(event.event, event.data, event.id)
        except httpx_sse.SSEError:
            raise Refused(source.response.status_code, source.response.read().decode()) from None
        except httpx.TransportError:
            pass  # broken off


def with_sseclient_py(url, headers, body=None):
    headers = {"Accept": "text/event-stream", **headers}
    with requests.request(_method(body), url, headers=headers, json=body, stream=True, timeout=60) as response:
        if response.status_code != 200:
            raise Refused(response.status_code, response.text)
        with contextlib.suppress(requests.RequestException):
            for event in sseclient.SSEClient(response).events():
                yield _event(event.event, event.data, event.id)


def with_openai(url, headers, body=None):
    with openai.OpenAI(base_url=url, api_key=TOKEN, max_retries=0, timeout=60) as client:
        options = {"cast_to": object, "stream": True, "stream_cls": openai.Stream[object], "options": {"headers": {"Accept": "text/event-stream", **headers}}}
        try:
            stream = client.get(url, **options) if body is None else client.post(url, body=body, **options)
        except openai.APIStatusError as error:
            raise Refused(error.status_code, error.response.text) from None
        if stream.response.status_code != 200:
            raise Refused(stream.response.status_code)
        with contextlib.suppress(openai.APIConnectionError):
            for event in stream._iter_events():
                yield _event(event.event, event.data, event.id)


def data_with_openai(url, headers, body=None):
    """What its users get: the data alone, decoded."""
    with openai.OpenAI(base_url=url, api_key=TOKEN, max_retries=0, timeout=60) as client:
        options = {"cast_to": object, "stream": True, "stream_cls": openai.Stream[object], "options": {"headers": {"Accept": "text/event-stream", **headers}}}
        yield from client.get(url, **options) if body is None else client.post(url, body=body, **options)


def with_aiohttp_sse_client(url, headers, body=None):
    """On a loop of its own, one step at a time."""
    with EventLoop() as loop:
        session = loop.run(_session())
        source = EventSource(url, option={"method": _method(body)}, session=session, headers=dict(headers), **({} if body is None else {"json": body}))
        # It would come back by itself, for ever after the end as well; here the tests say when.
        source.connect, connect = _no_more, source.connect
        try:
            try:
                loop.run(connect())
            except OSError as error:
                status = [int(word) for word in str(error).split() if word.isdigit()]
                raise Refused(status[-1] if status else None) from None
            while True:
                try:
                    event = loop.run(_next(source))
                except (aiohttp.ClientError, _NoMore):
                    return
                yield _event(event.type, event.data, event.last_event_id)
        finally:
            loop.run(source.close())
            loop.run(session.close())


async def _next(source):
    return await source.__anext__()


async def _session():
    # A preview in base64 is one line, and aiohttp refuses lines of twice the size of its buffer.
    return aiohttp.ClientSession(read_bufsize=1 << 20)


class _NoMore(Exception):
    pass


async def _no_more(retry=0):
    raise _NoMore


ALL = [with_httpx_sse, with_sseclient_py, with_openai, with_aiohttp_sse_client]
