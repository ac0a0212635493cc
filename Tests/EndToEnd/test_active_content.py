"""Content that somebody uploaded, in a browser: nothing in it runs with the bridge's origin, whatever type it was given."""

import pytest
from playwright.sync_api import Error, expect

import workflows
from firefox import Firefox
from http_client import curl

SCRIPT = "fetch('/api/v2/jobs/stolen/why'); try { parent.document.title = 'mine'; top.document.title = 'mine' } catch (e) {}"
HTML = f"<!doctype html><title>x</title><script>{SCRIPT}</script><img src=x onerror=\"{SCRIPT}\">".encode()
XHTML = f'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title>x</title></head><body><script>{SCRIPT}</script></body></html>'.encode()
SVG = f'<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"><rect width="10" height="10" fill="red"/><script>{SCRIPT}</script></svg>'.encode()

ACTIVE = {
    "text/html": HTML, "text/html; charset=utf-7": HTML, "TEXT/HTML": HTML, "application/xhtml+xml": XHTML, "text/xml": XHTML, "application/xml": XHTML,
    "text/xsl": XHTML, "application/xslt+xml": XHTML, "image/svg+xml": SVG, "image/x+xml": SVG, "application/rdf+xml": XHTML, "application/mathml+xml": XHTML,
    "application/vnd.mozilla.xul+xml": XHTML, "video/x+xml": XHTML, "text/vnd.wap.wml": XHTML, "application/vnd.wap.xhtml+xml": XHTML,
    "multipart/x-mixed-replace; boundary=b": b"--b\r\nContent-Type: text/html\r\n\r\n" + HTML + b"\r\n--b--\r\n", "multipart/related": HTML, "message/rfc822": HTML,
    "application/pdf": HTML, "text/javascript": SCRIPT.encode(), "text/css": b"body { background: red }", "text/markdown": HTML, "text/rtf": HTML,
    "application/octet-stream": HTML, "application/x-unknown": HTML, "unknown/unknown": HTML, "application/json+html": HTML,
    # Shown, and what is in it would be a page if the browser guessed.
    "text/plain": HTML, "image/png": HTML, "application/json": HTML, "video/mp4": HTML, "audio/mpeg": HTML,
}


def upload(bridge, content, type_, tmp_path):
    file = tmp_path / "content"
    file.write_bytes(content)
    reply = curl("-F", f"file=@{file}", "-F", "file_path=a.bin", "--form-string", f"content_type={type_}", f"{bridge}/api/v2/assets")
    assert reply.status in (200, 201), (type_, reply.body)
    return f"{bridge}/api/v2/assets/{reply.json()['id']}/content"


# In the bridge's own page, which lets in what comes from its own origin.
EMBED = """([name, url]) => new Promise(done => {
  const element = document.createElement(name);
  if (name === 'link') element.rel = 'stylesheet';
  element[{ object: 'data', link: 'href' }[name] || 'src'] = url;
  element.onload = element.onerror = done;
  document.body.append(element);
  // What is saved has no such event.
  if (name !== 'script' && name !== 'link') fetch(url).then(reply => reply.arrayBuffer()).then(() => requestAnimationFrame(done));
})"""


def thefts(bridge):
    """How often a script asked for what SCRIPT asks for."""
    lines = curl(f"{bridge}/metrics").body.decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("comfy_bridge_http_requests_total") and "/why" in line)


def uploads(bridge, tmp_path):
    """Each type with its URL, and whether a browser is to show it."""
    for type_, content in ACTIVE.items():
        url = upload(bridge, content, type_, tmp_path)
        reply = curl("-I", url)
        assert reply.headers["content-security-policy"] == "sandbox; default-src 'none'", type_
        assert reply.headers["x-content-type-options"] == "nosniff", type_
        yield type_, url, reply.headers["content-disposition"].startswith("inline")


def test_nothing_runs_in_chromium(bridge, new_page, tmp_path):
    page = new_page(bridge)
    before = thefts(bridge)
    for type_, url, is_shown in uploads(bridge, tmp_path):
        tab = page.context.new_page()
        if is_shown:
            tab.goto(url)
        else:
            with tab.expect_download():
                with pytest.raises(Error, match="Download is starting|ERR_ABORTED"):
                    tab.goto(url)
        tab.close()
        for name in ["iframe", "embed", "object", "script", "link"]:
            page.evaluate(EMBED, [name, url])
        assert thefts(bridge) == before, type_
    assert page.title() != "mine"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 0, 0)"
    # Had one run, it would have been seen.
    page.evaluate(f"async () => {{ await {SCRIPT} }}")
    assert thefts(bridge) == before + 1


def test_nothing_runs_in_firefox(bridge, tmp_path):
    tab = Firefox()
    try:
        before = thefts(bridge)
        tab.goto(bridge)
        for type_, url, is_shown in uploads(bridge, tmp_path):
            for name in ["iframe", "embed", "object", "script", "link"]:
                tab.evaluate(EMBED, [name, url])
            if is_shown:
                tab.goto(url)
                tab.goto(bridge)
            assert thefts(bridge) == before, type_
        tab.evaluate(EMBED, ["iframe", f"{bridge}/openapi.yaml"])
        assert tab.evaluate("() => document.title") != "mine"
        assert thefts(bridge) == before
        tab.evaluate(f"async () => {{ await {SCRIPT} }}")
        assert thefts(bridge) == before + 1
    finally:
        tab.close()


@pytest.mark.parametrize("type_", ["image/png, text/html", "image/png;a=b, text/html", 'image/png;a="b\\", text/html', "text/plain\ttext/html", "image", "image/png;", "image/png; a=b c"])
def test_what_is_no_type_is_refused(bridge, tmp_path, type_):
    file = tmp_path / "content"
    file.write_bytes(HTML)
    reply = curl("-F", f"file=@{file}", "-F", "file_path=a.bin", "--form-string", f"content_type={type_}", f"{bridge}/api/v2/assets")
    assert (reply.status, reply.json()["error"]["details"]["field"]) == (422, "content_type")


def test_pictures_and_texts_are_shown(bridge, new_page, tmp_path):
    job = curl(f"{bridge}/run", data=workflows.every_kind()).json()
    urls = {output["name"]: output["url"] for output in job["outputs"]}
    # A drawing is saved from a tab of its own, and shown in a page, where nothing in it runs.
    urls["an upload"] = upload(bridge, SVG, "image/svg+xml", tmp_path)
    page = new_page(bridge)
    for name in ["still.png", "an upload"]:
        size = page.evaluate("url => new Promise((done, failed) => { const image = new Image(); image.onload = () => done(image.naturalWidth); image.onerror = failed; image.src = url })", urls[name])
        assert size > 0, name
    # In tabs of their own as well.
    picture = new_page(urls["still.png"])
    assert picture.evaluate("document.images[0].naturalWidth") > 0
    text = new_page(next(output["url"] for output in job["outputs"] if output["type"] == "text"))
    expect(text.locator("pre")).to_contain_text("hello <b>world</b>")


def test_every_answer_says_nosniff(bridge):
    job = curl(f"{bridge}/run", data=workflows.plain(prefix="sniff")).json()
    answers = [
        curl(f"{bridge}/api/v2/jobs"), curl(f"{bridge}/api/v2/jobs/{job['id']}"), curl(f"{bridge}{job['urls']['events']}"), curl(f"{bridge}/nothing"), curl("-X", "PUT", f"{bridge}/run"),
        curl(f"{bridge}/run", data="{"), curl(f"{bridge}/metrics"), curl(f"{bridge}/openapi.yaml"), curl(f"{bridge}/"), curl(f"{bridge}/app.js"), curl(f"{bridge}/readyz"),
        curl("-H", "Host: evil.example", f"{bridge}/run"), curl("-X", "OPTIONS", f"{bridge}/run"), curl("-H", "Prefer: respond-async", f"{bridge}/run", data=workflows.plain(prefix="sniff")),
        curl("-H", "Content-Length: 99999999", f"{bridge}/run", data="{}"), curl(job["outputs"][0]["url"]), curl("-H", "Accept: image/png", f"{bridge}/run", data=workflows.plain(prefix="sniff")),
    ]
    assert [(reply.status, reply.headers.get("x-content-type-options")) for reply in answers] == [(reply.status, "nosniff") for reply in answers]
    for reply in answers[-2:]:
        assert reply.headers["content-security-policy"] == "sandbox; default-src 'none'"
