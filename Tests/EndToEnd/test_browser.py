"""The page at / in Debian's Chromium: run, watch, cancel, errors, a broken connection, the curl command."""

import json
import re
import subprocess
import zlib

import pytest
from playwright.sync_api import expect

import workflows
from http_client import curl
from proxies import CuttingProxy

OBSERVE = """() => {
  window.seen = { previews: new Set() };
  const image = document.querySelector('#preview');
  new MutationObserver(() => { if (image.hasAttribute('src')) window.seen.previews.add(image.getAttribute('src')); })
    .observe(image, { attributes: true, attributeFilter: ['src'] });
}"""


def run(page, workflow):
    page.fill("#workflow", json.dumps(workflow))
    page.click("#run")


def wait_for(page, status):
    expect(page.locator("#job")).to_have_attribute("data-status", status, timeout=30_000)


def frames(page, count):
    """At least `count` (below 10) preview events have come."""
    expect(page.locator("#preview")).to_have_attribute("data-frames", re.compile(rf"^([{count}-9]|\d\d+)$"), timeout=30_000)


def logged(page, type_=None):
    rows = page.locator("#log li").evaluate_all("rows => rows.map(row => ({ type: row.dataset.type, id: row.dataset.eventId, text: row.innerText }))")
    return [row for row in rows if type_ in (None, row["type"])]


@pytest.mark.parametrize("previews", ["base64", "url"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_run_a_job(bridge, new_page, out, previews, scheme):
    page = new_page(bridge, color_scheme=scheme)
    expect(page.locator("#bridge")).to_have_attribute("data-state", "ready")
    page.evaluate(OBSERVE)
    page.click("#example-txt2img")
    workflow = json.loads(page.input_value("#workflow"))
    workflow["3"]["inputs"]["seed"] = zlib.crc32(f"{previews} {scheme}".encode())   # not from ComfyUI's cache: that sends no previews
    page.fill("#workflow", json.dumps(workflow, indent=2))
    page.select_option("#previews", previews)
    page.click("#log-panel summary")
    page.click("#run")
    frames(page, 2)
    expect(page.locator('#nodes [data-node-id="3"]')).to_have_attribute("data-state", re.compile("running|finished"))
    wait_for(page, "succeeded")

    assert len(page.evaluate("() => [...window.seen.previews]")) >= 2, "at least two different previews"
    assert page.evaluate("() => document.querySelector('#preview').naturalWidth") > 0
    picture = page.locator("#outputs img")
    expect(picture).to_have_count(1)
    picture.evaluate("image => image.decode()")
    assert picture.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [512, 512]
    assert page.locator("#progress").evaluate("bar => bar.value") == 1
    states = page.locator("#nodes li").evaluate_all("rows => rows.map(row => row.dataset.state)")
    assert len(states) == 7 and set(states) <= {"finished", "cached"}
    assert {"status", "node", "output", "progress", "preview"} <= {row["type"] for row in logged(page)}
    expect(page.locator("#history li")).to_have_count(1)
    expect(page.locator("#history a[target]")).to_have_count(1)
    page.screenshot(path=out / ("browser.png" if (scheme, previews) == ("light", "base64") else f"browser-{scheme}-{previews}.png"), full_page=True)
    assert page.complaints == []


def test_example_without_model(bridge, new_page):
    page = new_page(bridge)
    page.click("#example-plain")
    page.keyboard.press("Tab")
    page.focus("#workflow")
    page.keyboard.press("Control+Enter")
    wait_for(page, "succeeded")
    expect(page.locator("#outputs img")).to_have_count(1)
    assert page.complaints == []


def test_cancel(bridge, new_page):
    page = new_page(bridge)
    run(page, workflows.endless())
    frames(page, 1)
    page.click("#cancel")
    wait_for(page, "canceled")
    expect(page.locator("#cancel")).to_be_disabled()
    assert page.complaints == []


def test_editors_format_is_explained(bridge, new_page):
    page = new_page(bridge)
    run(page, workflows.ui_format())
    expect(page.locator('#error [data-code="workflow_format_ui"]')).to_be_visible()
    expect(page.locator("#error .error-message")).to_contain_text("Export (API)")


def test_errors_name_the_nodes(bridge, new_page):
    page = new_page(bridge)
    workflow = workflows.txt2img()
    workflow["4"]["class_type"] = "<b>Missing</b>"
    del workflow["5"]["inputs"]["width"]
    run(page, workflow)
    expect(page.locator('#error [data-code="invalid_workflow"]')).to_be_visible()
    expect(page.locator("#error")).to_contain_text("<b>Missing</b>")
    expect(page.locator('#error .node-errors [data-node-id="5"]')).to_contain_text("width")
    for node in ("4", "5"):
        expect(page.locator(f'#nodes [data-node-id="{node}"]')).to_have_attribute("data-state", "error")


def test_refusal_of_comfyui_is_told(bridge, new_page):
    page = new_page(bridge)
    workflow = workflows.txt2img()
    workflow["4"]["inputs"]["ckpt_name"] = "missing.safetensors"
    run(page, workflow)
    wait_for(page, "failed")
    expect(page.locator('#error [data-code="invalid_workflow"]')).to_be_visible()
    expect(page.locator("#error")).to_contain_text("missing.safetensors")


def test_failing_node(bridge, new_page):
    page = new_page(bridge)
    run(page, workflows.raising())
    wait_for(page, "failed")
    expect(page.locator('#error [data-code="node_execution_error"]')).to_be_visible()
    expect(page.locator("#error")).to_contain_text("the roof is on fire")
    expect(page.locator('#nodes [data-node-id="2"]')).to_have_attribute("data-state", "error")
    assert page.complaints == []


def test_every_kind_of_output_is_shown(bridge, new_page):
    page = new_page(bridge)
    run(page, workflows.every_kind())
    wait_for(page, "succeeded")
    expect(page.locator("#outputs li")).to_have_count(7)
    expect(page.locator("#outputs video")).to_have_count(1)
    expect(page.locator("#outputs audio")).to_have_count(1)
    expect(page.locator('#outputs [data-type="text"] pre')).to_have_text("hello <b>world</b>")
    expect(page.locator('#outputs a.download[download="model.glb"]')).to_be_visible()
    expect(page.locator('#outputs a.download[download="drawing.svg"]')).to_be_visible()
    page.locator('#outputs img[alt*="still.png"]').evaluate("image => image.decode()")
    expect(page.locator("#other-outputs pre")).to_contain_text("0.25")


def test_broken_json_is_told_at_once(bridge, new_page):
    page = new_page(bridge)
    page.fill("#workflow", '{"1": ')
    expect(page.locator("#workflow-note")).to_have_attribute("data-state", "bad")
    page.click("#run")
    expect(page.locator('#error [data-code="invalid_json"]')).to_be_visible()


def test_big_numbers_are_sent_as_typed(bridge, new_page):
    page = new_page(bridge)
    run(page, workflows.txt2img(steps=1, seed=18446744073709551615))
    wait_for(page, "succeeded")
    job_id = page.inner_text("#job-id")
    assert curl(f"{bridge}/api/v2/jobs/{job_id}/workflow").json()["workflow"]["3"]["inputs"]["seed"] == 18446744073709551615


def test_job_of_curl_is_shown_by_its_address(bridge, new_page):
    job = curl(f"{bridge}/run", data=workflows.plain()).json()
    page = new_page(f"{bridge}/#job/{job['id']}")
    wait_for(page, "succeeded")
    expect(page.locator("#outputs img")).to_have_count(1)
    expect(page.locator("#nodes li")).to_have_count(3)
    page.reload()
    wait_for(page, "succeeded")
    expect(page.locator("#history li")).to_have_count(1)
    assert page.complaints == []


def test_picture_brings_its_workflow(bridge, new_page, tmp_path):
    picture = tmp_path / "made.png"
    curl("-H", "Accept: image/png", "-o", str(picture), f"{bridge}/run", data=workflows.plain(prefix="brings"))
    page = new_page(bridge)
    page.set_input_files("#file", picture)
    expect(page.locator("#workflow-note")).to_have_attribute("data-state", "good")
    assert json.loads(page.input_value("#workflow")) == workflows.plain(prefix="brings")


def test_copied_curl_command_runs(bridge, new_page):
    page = new_page(bridge, permissions=["clipboard-read", "clipboard-write"])
    page.fill("#workflow", json.dumps(workflows.plain(prefix="it's a \"copy\" $HOME"), indent=1))
    page.check("#curl-inline")

    def copied(variant):
        page.select_option("#curl-variant", variant)
        page.click("#copy-curl")
        expect(page.locator("#copy-note")).to_have_text("The curl command was copied.")
        command = page.evaluate("() => navigator.clipboard.readText()")
        assert command == page.locator("#curl").evaluate("element => element.textContent")
        return subprocess.run(["bash", "-c", command], capture_output=True, timeout=60, check=True).stdout

    job = json.loads(copied("json"))
    assert job["status"] == "succeeded"
    workflow = curl(f"{bridge}/api/v2/jobs/{job['id']}/workflow").json()["workflow"]
    assert workflow["3"]["inputs"]["filename_prefix"] == "it's a \"copy\" $HOME"
    assert b"event: job\n" in copied("events")
    assert b" 202 " in copied("async").split(b"\r\n")[0]


def test_broken_connection_is_mended(bridge, new_page):
    """The stream is cut in the middle of the run: nothing is missing afterwards, and nothing comes twice."""
    with CuttingProxy(bridge) as proxy:
        page = new_page(proxy.url)
        page.click("#log-panel summary")
        run(page, workflows.txt2img(steps=60, seed=77))
        frames(page, 2)
        proxy.cut()
        expect(page.locator('#log [data-type="stream"]')).to_have_count(1)
        wait_for(page, "succeeded")
        expect(page.locator("#outputs li")).to_have_count(1)
        expect(page.locator("#reset")).to_be_hidden()
        ids = [int(row["id"]) for row in logged(page) if row["id"]]
        assert ids == sorted(set(ids)), "no event twice, none out of order"
        finished = [row["text"] for row in logged(page, "node") if "finished" in row["text"]]
        assert any(re.search(r"\b9 SaveImage", text) for text in finished)
        assert proxy.streams >= 2, "the page came back by itself"
