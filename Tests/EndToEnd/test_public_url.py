"""A bridge that a proxy has put below a path (`--public-url https://host/comfy`): every link leads back through the proxy, whether it takes the path away or not."""

from urllib.parse import urljoin, urlsplit

import pytest
from playwright.sync_api import expect

import workflows
from http_client import curl
from proxies import PrefixProxy
from test_browser import frames, run, wait_for
from test_browser_access import enter_token

TOKEN = "public-url-token-9f2c"
AUTHORIZATION = ("-H", f"Authorization: Bearer {TOKEN}")
PREFIX = "/gpu/comfy"


@pytest.fixture(params=[True, False], ids=["taken away", "left"])
def proxy(request, start_bridge):
    with PrefixProxy(PREFIX, strips=request.param) as proxy:
        proxy.target = start_bridge("--public-url", f"{proxy.url}/", "--token", TOKEN, "--preview-history", 64).url
        yield proxy


def followed(proxy, link, *arguments):
    """A link is resolved against the origin, as the Comfy API v2 has it."""
    url = urljoin(proxy.origin, link)
    assert urlsplit(url).path.startswith(PREFIX + "/"), link
    return curl(*arguments, url)


def check_job(proxy, job):
    assert followed(proxy, job["urls"]["self"], *AUTHORIZATION).json()["id"] == job["id"]
    assert followed(proxy, job["urls"]["events"], *AUTHORIZATION).status == 200
    assert followed(proxy, job["urls"]["cancel"], "-X", "POST", *AUTHORIZATION).status == 200


def test_every_link_leads_back(proxy):
    run_url, jobs = f"{proxy.url}/run", f"{proxy.url}/api/v2/jobs"
    done = curl(*AUTHORIZATION, f"{run_url}?signed_events=1", data=workflows.plain(prefix="below"))
    assert done.status == 200
    check_job(proxy, done.json())
    # Signed ones want no header, and take options on either side.
    events = done.json()["urls"]["events"]
    assert followed(proxy, events).status == 200
    assert followed(proxy, events + "&previews=url").status == 200
    assert followed(proxy, events.replace("?", "?previews=url&")).status == 200
    assert followed(proxy, events.replace("signature=", "signature=0")).status == 401
    [output] = done.json()["outputs"]
    assert output["url"].startswith(proxy.url + "/") and followed(proxy, output["url"]).content_type == "image/png"

    started = curl(*AUTHORIZATION, "-H", "Prefer: respond-async", run_url, data=workflows.plain(prefix="below"))
    assert started.status == 202
    check_job(proxy, started.json())
    submitted = curl(*AUTHORIZATION, jobs, data={"workflow": workflows.plain(prefix="below")})
    assert submitted.status == 201
    failed = curl(*AUTHORIZATION, run_url, data=workflows.raising())
    assert failed.status == 500
    for reply in (started, submitted, failed):
        assert followed(proxy, reply.headers["location"], *AUTHORIZATION).json()["id"] == reply.headers["comfy-job-id"]
    wrong_type = curl(*AUTHORIZATION, "-H", "Accept: video/*", run_url, data=workflows.plain(prefix="below"))
    assert wrong_type.status == 406
    check_job(proxy, wrong_type.json()["error"]["details"])
    for job in curl(*AUTHORIZATION, jobs).json()["jobs"]:
        assert all(link.startswith(PREFIX + "/api/v2/") for link in job["urls"].values())

    uploaded = curl(*AUTHORIZATION, "-F", "file=@/etc/hostname;filename=name.txt", f"{proxy.url}/api/v2/assets")
    assert uploaded.status == 201
    assert followed(proxy, uploaded.headers["location"], *AUTHORIZATION).json()["id"] == uploaded.json()["id"]
    assert followed(proxy, uploaded.json()["url"]).status == 200

    stream = curl(*AUTHORIZATION, "-H", "Accept: text/event-stream", f"{run_url}?previews=url", data=workflows.txt2img(steps=6, seed=77 + proxy.strips))
    events = stream.events()
    check_job(proxy, events[0].data)
    previews = [event.data["url"] for event in events if event.type == "preview"]
    assert previews and all(followed(proxy, url).content_type.startswith("image/") for url in previews)


def test_whoever_goes_past_the_proxy_can_follow_the_links_as_well(proxy):
    job = curl(*AUTHORIZATION, f"{proxy.target}/run", data=workflows.plain(prefix="past")).json()
    for link in job["urls"].values():
        assert curl("-X", "POST" if link.endswith("/cancel") else "GET", *AUTHORIZATION, proxy.target + link).status == 200


def test_sdk(proxy, connect, monkeypatch):
    monkeypatch.setenv("COMFY_API_KEY", TOKEN)
    client = connect(proxy.url)
    job = client.run(client.workflows.from_json(workflows.plain(prefix="sdk-below")))
    assert job.status == "succeeded"
    [output] = job.outputs
    assert len(output.to_bytes()) == output.size_bytes
    job = client.submit(client.workflows.from_json(workflows.txt2img(steps=6, seed=88 + proxy.strips)))
    assert [event for event in job.events() if type(event).__name__ == "StatusChange"][-1].status == "succeeded"
    job.refresh()
    assert job.status == "succeeded"


def test_page(proxy, new_page):
    page = new_page(proxy.url + "/")
    page.select_option("#previews", "url")
    run(page, workflows.txt2img(steps=10, seed=99 + proxy.strips))
    enter_token(page, TOKEN)
    frames(page, 2)
    wait_for(page, "succeeded")
    assert page.get_attribute("#preview", "src").startswith(proxy.url)
    page.locator("#outputs img").evaluate("image => image.decode()")
    for variant in ("json", "watch"):
        page.select_option("#curl-variant", variant)
        expect(page.locator("#curl")).to_contain_text(f"{proxy.url}/{'run' if variant == 'json' else 'api/v2/jobs/'}")
    job = page.inner_text("#job-id")
    page.goto(f"{proxy.url}/#job/{job}")
    page.reload()
    wait_for(page, "succeeded")
    assert [text for text in page.complaints if "401 (Unauthorized)" not in text] == []
    if not proxy.strips:
        redirected = curl(proxy.url)
        assert (redirected.status, redirected.headers["location"]) == (308, PREFIX + "/")
