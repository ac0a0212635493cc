"""Chromium and a bridge that does not let everybody in: its own page with a token, pages of other origins, a name that was rebound."""

import http.server
import re
import threading
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

import workflows
from conftest import CHROMIUM
from http_client import curl
from processes import Process
from proxies import CuttingProxy, RecordingProxy
from test_browser import frames, logged, run, wait_for

TOKEN = "browser-token-5f1c0d3a9b7e"


class ForeignSite:
    """An empty page on a port, and so of an origin, of its own."""

    def __init__(self):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = b"<!doctype html><title>elsewhere</title><link rel=icon href=data:,><main></main>"
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def friend():
    site = ForeignSite()
    yield site.origin
    site.close()


@pytest.fixture(scope="module")
def stranger():
    site = ForeignSite()
    yield site.origin
    site.close()


@pytest.fixture(scope="module")
def comfyui(simulator):
    with RecordingProxy(simulator.url) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def guarded(binary, comfyui, friend):
    """A bridge with a token that pages of `friend` may use."""
    process = Process(
        binary, "serve", "--port", 0, "--comfyui", comfyui.url, "--token", TOKEN, "--cors-origin", friend, "--preview-history", 64)
    yield process.url
    process.stop()


def prompts(comfyui):
    return sum(head.startswith("POST /prompt") for head in comfyui.heads())


# ---------------------------------------------------------------------------------------------- the bridge's own page


def enter_token(page, token):
    expect(page.locator("#access")).to_be_visible()
    page.fill("#token", token)
    page.press("#token", "Enter")


def test_page_asks_for_the_token(guarded, new_page, out):
    page = new_page(guarded)
    expect(page.locator("#bridge")).to_have_attribute("data-state", "ready")
    expect(page.locator("#access")).to_be_hidden()
    page.select_option("#previews", "url")
    page.click("#log-panel summary")
    run(page, workflows.txt2img(steps=10, seed=901))
    enter_token(page, "token-of-somebody-else")
    expect(page.locator("#access-note")).to_have_text("The bridge does not know that token.")
    page.screenshot(path=out / "browser-token.png")
    enter_token(page, f" {TOKEN} ")
    frames(page, 2)
    wait_for(page, "succeeded")
    expect(page.locator("#access")).to_be_hidden()
    assert page.evaluate("() => document.querySelector('#preview').naturalWidth") > 0
    assert "signature=" in page.get_attribute("#preview", "src")
    picture = page.locator("#outputs img")
    picture.evaluate("image => image.decode()")
    assert picture.evaluate("image => image.naturalWidth") == 64
    assert "$COMFY_BRIDGE_TOKEN" in page.inner_text("#curl")
    assert TOKEN not in page.content()

    job = page.inner_text("#job-id")
    page.goto(f"{guarded}/#job/{job}")
    page.reload()
    wait_for(page, "succeeded")
    expect(page.locator("#access")).to_be_hidden()
    expect(page.locator("#bridge")).to_contain_text("ComfyUI 0.")
    # Chromium itself says that an answer was 401; nothing else was wrong, the page's policy included.
    assert [text for text in page.complaints if "401 (Unauthorized)" not in text] == []


def test_page_mends_a_stream_whose_signature_has_expired(binary, simulator, new_page):
    process = Process(binary, "serve", "--port", 0, "--comfyui", simulator.url, "--token", TOKEN, "--url-lifetime", 1)
    try:
        with CuttingProxy(process.url) as proxy:
            page = new_page(proxy.url)
            page.click("#log-panel summary")
            run(page, workflows.txt2img(steps=110, seed=902))
            enter_token(page, TOKEN)
            # A step takes 40 ms, and the signature of a second lives two at most.
            expect(page.locator("#preview")).to_have_attribute("data-frames", re.compile(r"^([6-9]\d|\d{3})$"), timeout=30_000)
            proxy.cut()
            wait_for(page, "succeeded")
            assert proxy.streams >= 3, "the first, the one that was refused, the one with a new signature"
            ids = [int(row["id"]) for row in logged(page) if row["id"]]
            assert ids == sorted(set(ids)), "no event twice, none out of order"
            expect(page.locator("#outputs li")).to_have_count(1)
            expect(page.locator("#reset")).to_be_hidden()
    finally:
        process.stop()


# ---------------------------------------------------------------------------------------------- pages of other origins

WATCH_A_JOB = """async ([bridge, token, workflow]) => {
  const response = await fetch(`${bridge}/api/v2/jobs?signed_events=1`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${token}`, 'Idempotency-Key': crypto.randomUUID() },
    body: JSON.stringify({ workflow }),
  });
  const job = await response.json();
  const seen = { status: response.status, jobHeader: response.headers.get('Comfy-Job-Id'), job, events: [], pictures: [] };
  const show = (url) => {
    const image = new Image();
    image.src = url;
    document.querySelector('main').append(image);
    return image.decode().then(() => image.naturalWidth, () => 0);
  };
  await new Promise((resolve, reject) => {
    const source = new EventSource(`${bridge}${job.urls.events}&previews=url&last_event_id=0`);
    source.onerror = () => { if (source.readyState === EventSource.CLOSED) reject(new Error('the stream was refused')); };
    for (const type of ['status', 'progress', 'preview', 'node', 'output', 'log']) {
      source.addEventListener(type, (event) => {
        const data = JSON.parse(event.data);
        seen.events.push({ type, id: event.lastEventId, data });
        if (type === 'preview') seen.pictures.push(show(data.url));
        if (['succeeded', 'failed', 'canceled'].includes(data.status)) { source.close(); resolve(); }
      });
    }
  });
  seen.pictures = await Promise.all(seen.pictures);
  const output = seen.events.find(({ type }) => type === 'output').data;
  const content = await fetch(output.url);
  seen.output = { width: await show(output.url), size: (await content.blob()).size, told: output.size_bytes };
  return seen;
}"""

TRY = """async ([bridge, token, events]) => {
  const tries = {
    submit: { method: 'POST', headers: { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' }, body: '{}' },
    // What a browser sends without asking first, as a form would.
    simple: { method: 'POST', headers: { 'Content-Type': 'text/plain' }, body: '{}' },
    read: { headers: { Authorization: `Bearer ${token}` } },
  };
  const results = {};
  for (const [name, options] of Object.entries(tries)) {
    results[name] = await fetch(`${bridge}/${name === 'read' ? 'readyz' : 'run'}`, options).then((response) => response.status, (error) => error.name);
  }
  results.stream = await new Promise((resolve) => {
    const source = new EventSource(events);
    source.onopen = () => { source.close(); resolve('open'); };
    source.onerror = () => resolve(source.readyState === EventSource.CLOSED ? 'refused' : 'broken');
  });
  return results;
}"""


def test_page_of_an_allowed_origin(guarded, friend, new_page):
    page = new_page(friend)
    seen = page.evaluate(WATCH_A_JOB, [guarded, TOKEN, workflows.txt2img(steps=10, seed=903)])
    assert seen["status"] == 201
    assert seen["jobHeader"] == seen["job"]["id"]
    events = seen["events"]
    assert events[-1]["data"]["status"] == "succeeded"
    kinds = [event["type"] for event in events]
    assert {"status", "progress", "preview", "node", "output"} <= set(kinds)
    ids = [int(event["id"]) for event in events if event["type"] in ("status", "node", "output") and event["id"] and "queue_position" not in event["data"]]
    assert ids == list(range(1, ids[-1] + 1)), "every event, from the first to the last"
    assert kinds.count("preview") >= 2
    assert all(width > 0 for width in seen["pictures"]), seen["pictures"]
    assert seen["output"]["width"] == 64
    assert seen["output"]["size"] == seen["output"]["told"]
    assert page.complaints == []


def signed_events(bridge):
    """The absolute address of a stream that works."""
    job = curl("-H", f"Authorization: Bearer {TOKEN}", f"{bridge}/run?signed_events=1", data=workflows.plain(prefix="for-others")).json()
    return f"{bridge}{job['urls']['events']}"


def test_page_of_another_origin_is_refused(guarded, comfyui, stranger, new_page):
    events = signed_events(guarded)
    assert curl(events).status == 200, "the address itself is good"
    before = prompts(comfyui)
    page = new_page(stranger)
    assert page.evaluate(TRY, [guarded, TOKEN, events]) == {"submit": "TypeError", "simple": "TypeError", "read": "TypeError", "stream": "refused"}
    with pytest.raises(Exception, match="Failed to fetch"):
        page.evaluate(WATCH_A_JOB, [guarded, TOKEN, workflows.plain(prefix="strange")])
    assert prompts(comfyui) == before, "no job was made"


def test_wrong_signature_is_refused(guarded, friend, new_page):
    events = signed_events(guarded)
    page = new_page(friend)
    good = page.evaluate(TRY, [guarded, TOKEN, events])
    assert good == {"submit": 422, "simple": 401, "read": 200, "stream": "open"}
    wrong = events[:-1] + ("0" if events[-1] != "0" else "1")
    assert page.evaluate(TRY, [guarded, TOKEN, wrong])["stream"] == "refused"
    assert page.evaluate(TRY, [guarded, TOKEN, events.split("?")[0]])["stream"] == "refused"


def test_bridge_without_token_is_no_prey_of_other_pages(binary, comfyui, stranger, new_page, browser):
    """No token, so only the guards stand between a foreign page and ComfyUI."""
    process = Process(binary, "serve", "--port", 0, "--comfyui", comfyui.url)
    try:
        before = prompts(comfyui)
        page = new_page(stranger)
        send = """async ([bridge, workflow, mode]) => fetch(`${bridge}/run`, { method: 'POST', mode, body: JSON.stringify(workflow) })
          .then((response) => response.type, (error) => error.name)"""
        assert page.evaluate(send, [process.url, workflows.plain(prefix="prey"), "cors"]) == "TypeError"
        # The browser sends it and hides the answer: only the bridge can refuse.
        assert page.evaluate(send, [process.url, workflows.plain(prefix="prey"), "no-cors"]) == "opaque"

        # A name of the attacker that now leads here: to the browser it is the page's own origin.
        port = urlsplit(process.url).port
        rebound = browser.browser_type.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", f"--host-resolver-rules=MAP rebound.example 127.0.0.1:{port}"])
        try:
            page = rebound.new_page()
            response = page.goto(f"http://rebound.example:{port}/")
            assert response.status == 403
            assert page.evaluate(send, ["", workflows.plain(prefix="prey"), "cors"]) == "basic"
            assert page.evaluate("async () => (await fetch('/api/v2/jobs')).status") == 403
            # Probes go by any name, and say no more than that.
            assert page.evaluate("async () => Object.keys(await (await fetch('/readyz')).json())") == ["ready"]
        finally:
            rebound.close()
        assert prompts(comfyui) == before, "no job was made"
    finally:
        process.stop()
