"""Event streams from the first byte to the last, with the clients that people use and the EventSource of both browsers."""

import json

import pytest

import event_clients
import workflows
from event_clients import ALL, Refused
from firefox import Firefox
from http_client import curl
from processes import Process
from proxies import CuttingProxy
from test_browser_access import ForeignSite

TOKEN = "event-clients-token-4c1d"
STEPS = 100
"""Of the sampler, 40 ms each: longer than a few heartbeats of a second."""

TERMINAL = {"succeeded", "failed", "canceled", "expired"}
TYPES = {"job", "status", "progress", "preview", "node", "output", "log"}


@pytest.fixture(scope="module")
def friend():
    site = ForeignSite()
    yield site.origin
    site.close()


@pytest.fixture(scope="module")
def beating(binary, simulator, friend):
    """A bridge with a heartbeat every second, which pages of `friend` may use."""
    process = Process(
        binary, "serve", "--port", 0, "--comfyui", simulator.url, "--heartbeat", 1, "--preview-history", 256, "--token", TOKEN, "--cors-origin", friend,
        "--max-body-size", 1)
    yield process.url
    process.stop()


def submit(bridge, seed):
    reply = curl("-H", f"Authorization: Bearer {TOKEN}", f"{bridge}/api/v2/jobs?signed_events=1", data={"workflow": workflows.txt2img(steps=STEPS, seed=seed)})
    assert reply.status == 201, reply.body
    return reply.json()


def check(events, first="status"):
    """Nothing empty, nothing twice, in order, to the end."""
    assert {event.type for event in events} <= TYPES
    assert events[0].type == first
    assert all(isinstance(event.data, dict) and event.data for event in events)
    # Most clients show the id of the last event that had one with those that have none.
    ids = [int(event.id) for event in events if event.id]
    assert ids == sorted(ids)
    assert events[-1].type == "status" and events[-1].data["status"] == "succeeded"
    assert sum(event.type == "preview" for event in events) >= 2
    assert sum(event.type == "output" for event in events) == 1
    assert [event.data["status"] for event in events if event.type == "status" and "queue_position" not in event.data][-2:] == ["running", "succeeded"]


@pytest.mark.parametrize("client", ALL, ids=lambda client: client.__name__)
def test_python_client(beating, client):
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with CuttingProxy(beating) as proxy:
        job = submit(beating, seed=ALL.index(client))
        url = f"{proxy.url}/api/v2/jobs/{job['id']}/events?previews=base64"
        events = []
        for event in client(url, {**headers, "Last-Event-ID": "0"}):
            events.append(event)
            # Not before a heartbeat has stood between events.
            if b": heartbeat\n" in proxy.received and event.type == "preview":
                proxy.cut()
        assert events[-1].data.get("status") not in TERMINAL, "cut in the middle"
        last = [event.id for event in events if event.id][-1]
        rest = list(client(url, {**headers, "Last-Event-ID": last}))
        check(events + rest)
        assert not any(event.id and int(event.id) <= int(last) for event in rest if event.type in ("node", "output", "log"))
        last = rest[-1].id
        with pytest.raises(Refused) as refused:
            list(client(url, {**headers, "Last-Event-ID": last}))
        assert refused.value.status == 204
        assert b"\n: heartbeat\n" in proxy.received


@pytest.mark.parametrize("client", ALL, ids=lambda client: client.__name__)
def test_run_as_a_stream(beating, client):
    headers = {"Authorization": f"Bearer {TOKEN}", "Accept": "text/event-stream"}
    events = list(client(f"{beating}/run?previews=url", headers, workflows.txt2img(steps=12, seed=100 + ALL.index(client))))
    check(events, first="job")
    assert events[0].data["status"] in ("queued", "running")


@pytest.mark.parametrize("client", ALL, ids=lambda client: client.__name__)
def test_error_instead_of_a_stream(beating, client):
    headers = {"Authorization": f"Bearer {TOKEN}", "Accept": "text/event-stream"}
    for url, body, status, code in [
        (f"{beating}/run", {"1": {"class_type": "NoSuchClass", "inputs": {}}}, 422, "invalid_workflow"),
        (f"{beating}/run?previews=loud", workflows.plain(), 400, "invalid_parameter"),
        (f"{beating}/api/v2/jobs/no-such-job/events", None, 404, "not_found"),
    ]:
        with pytest.raises(Refused) as refused:
            list(client(url, headers, body))
        assert refused.value.status == status
        # What aiohttp-sse-client says has no more than the status in it.
        assert json.loads(refused.value.text)["error"]["code"] == code if refused.value.text else client is event_clients.with_aiohttp_sse_client


def test_data_of_openai(beating):
    headers = {"Authorization": f"Bearer {TOKEN}"}
    data = list(event_clients.data_with_openai(f"{beating}/run?previews=none", headers, workflows.txt2img(steps=60, seed=110)))
    assert data[0]["id"] and data[-1] == {"status": "succeeded"}
    assert all(isinstance(entry, dict) and entry for entry in data)


def test_text_with_every_separator_of_lines(beating):
    """Python's splitlines ends lines where JSON has none."""
    text = "a\u2028b\u2029c\x85d\ve\ff\x1cg\x1dh\x1ei\r\nj"
    workflow = {"1": {"class_type": "SimOutput", "inputs": {"output": json.dumps({"text": [text]}), "bytes": 0}}}
    for client in ALL:
        events = list(client(f"{beating}/run", {"Authorization": f"Bearer {TOKEN}", "Accept": "text/event-stream"}, workflow))
        assert [event.data["text"] for event in events if event.type == "output"] == [text]


# ---------------------------------------------------------------------------------------------- browsers


class Chromium:
    """A page of Playwright's, asked as `Firefox` is."""

    def __init__(self, browser):
        self.context = browser.new_context()
        self.page = self.context.new_page()

    def goto(self, url):
        self.page.goto(url)

    def evaluate(self, function, argument=None):
        return self.page.evaluate(function, argument)

    def close(self):
        self.context.close()


@pytest.fixture(params=["Chromium", "Firefox"], scope="module")
def tab(request, browser):
    tab = Chromium(browser) if request.param == "Chromium" else Firefox()
    yield tab
    tab.close()


WATCH = """({ url, withCredentials }) => {
  const source = new EventSource(url, { withCredentials });
  const seen = window.seen = { events: [], opened: 0, errors: 0, messages: 0, source };
  source.onopen = () => { seen.opened += 1; };
  source.onerror = () => { seen.errors += 1; };
  source.onmessage = () => { seen.messages += 1; };
  for (const type of ['status', 'progress', 'preview', 'node', 'output', 'log', 'dropped', 'reset']) {
    source.addEventListener(type, (event) => { seen.events.push({ type, id: event.lastEventId, data: JSON.parse(event.data) }); });
  }
}"""

UNTIL = """(condition) => new Promise((resolve) => {
  const seen = window.seen;
  const look = { previews: () => seen.events.filter(({ type }) => type === 'preview').length >= 10, closed: () => seen.source.readyState === EventSource.CLOSED }[condition];
  const timer = setInterval(() => {
    if (!look()) return;
    clearInterval(timer);
    resolve({ events: seen.events, opened: seen.opened, errors: seen.errors, messages: seen.messages, state: seen.source.readyState });
  }, 20);
})"""


@pytest.mark.parametrize("credentials", [False, True], ids=["plain", "withCredentials"])
def test_browser(beating, friend, tab, credentials):
    """A page of another origin: over a break, with options after the signature, to the answer 204 that ends its coming back."""
    with CuttingProxy(beating) as proxy:
        tab.goto(friend)
        job = submit(beating, seed=200 + credentials + 2 * isinstance(tab, Firefox))
        assert job["urls"]["events"].startswith("/api/v2/jobs/") and "signature=" in job["urls"]["events"]
        # As the README has it: the signature stands in the query already.
        url = tab.evaluate(
            """([link, bridge]) => {
              const url = new URL(link, bridge);
              url.searchParams.set('previews', 'url');
              url.searchParams.set('last_event_id', '0');
              return url.href;
            }""", [job["urls"]["events"], proxy.url])
        tab.evaluate(WATCH, {"url": url, "withCredentials": credentials})
        assert tab.evaluate(UNTIL, "previews")["opened"] == 1
        proxy.cut()
        seen = tab.evaluate(UNTIL, "closed")
        assert seen["opened"] == 2, "the first, and the one after the break"
        assert seen["errors"] == 3, "the break, the end, and the 204"
        assert seen["messages"] == 0, "no event without a name"
        events = seen["events"]
        assert [event["data"]["status"] for event in events if event["type"] == "status"][-1] == "succeeded"
        ids = [int(event["id"]) for event in events if event["type"] in ("node", "output", "log")]
        assert ids == sorted(set(ids)), "each once, in order"
        previews = [event["data"] for event in events if event["type"] == "preview"]
        assert len(previews) >= 10 and all("url" in preview and "data_base64" not in preview for preview in previews)


@pytest.mark.parametrize("add", ["&previews=none", "?previews=none"], ids=["ampersand", "second question mark"])
def test_options_after_the_signature(beating, friend, tab, add):
    tab.goto(friend)
    job = submit(beating, seed=300 + 2 * isinstance(tab, Firefox) + add.startswith("?"))
    tab.evaluate(WATCH, {"url": f"{beating}{job['urls']['events']}{add}", "withCredentials": False})
    seen = tab.evaluate(UNTIL, "closed")
    assert seen["events"][-1]["data"]["status"] == "succeeded"
    assert not any(event["type"] == "preview" for event in seen["events"])


def test_credentials_are_for_named_origins(start_bridge, friend, tab):
    """The browser reads the answer of a request with credentials only if the bridge says so, and never where all origins may come."""
    tab.goto(friend)
    for flags, result in [(["--cors-origin", friend], 200), (["--cors-origin", "*"], "refused")]:
        url = start_bridge(*flags).url
        got = tab.evaluate("url => fetch(url, { credentials: 'include' }).then((response) => response.status, () => 'refused')", f"{url}/api/v2/health")
        assert got == result
        posted = """url => fetch(url, { method: 'POST', credentials: 'include', headers: { 'Content-Type': 'application/json' }, body: '[]' })
          .then((response) => response.status, () => 'refused')"""
        assert tab.evaluate(posted, f"{url}/run") == (422 if result == 200 else "refused")
