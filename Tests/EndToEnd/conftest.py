import contextlib
import os
import pathlib
import socket

import pytest
from comfy_sdk import AsyncComfy, Comfy
from playwright.sync_api import sync_playwright

import workflows
from contract import ROOT, Contract
from http_client import curl
from processes import Process
from sdk_clients import EventLoop, Waiting

STEP_DELAY = 40
"""Milliseconds that a sampling step takes in the simulator: long enough to see previews come, short enough to wait for."""

CHROMIUM = "/usr/bin/chromium"

COMFYUI = os.environ.get("COMFYUI_URL", "").rstrip("/")
"""A real ComfyUI that the tests are to use instead of a simulated one (scripts/test-real)."""

BODY_LIMIT = 1
"""Megabytes, so that a body above it is quickly made."""


@pytest.fixture(scope="session")
def binary():
    path = pathlib.Path(os.environ.get("COMFY_BRIDGE_BINARY", ROOT / ".build/debug/comfy-bridge"))
    assert path.exists(), f"{path} does not exist: build it with `swift build`, or name another one in COMFY_BRIDGE_BINARY"
    return path


class RealComfyUI:
    """Where a test only wants to know where its ComfyUI is."""

    def __init__(self, url):
        self.url = url


HAVE_SIMULATORS = {"test_drain", "test_gone_callers", "test_load_generator", "test_odd_upstream", "test_readme", "test_restart", "test_scarcity", "test_slow_viewers"}
"""Modules that start simulated ComfyUIs of their own."""


def pytest_collection_modifyitems(config, items):
    """With a real ComfyUI, tests that need the simulator's switches, or its pace, are left out."""
    if not COMFYUI:
        return
    left_out = [item for item in items if item.get_closest_marker("simulated") or item.module.__name__ in HAVE_SIMULATORS]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def simulator(binary):
    if COMFYUI:
        yield RealComfyUI(COMFYUI)
        return
    process = Process(binary, "simulate", "--port", 0, "--step-delay", STEP_DELAY)
    yield process
    process.stop()


@pytest.fixture(scope="session")
def bridge(binary, simulator):
    """The bridge's URL. It has run a job, so its ComfyUI is connected."""
    process = Process(binary, "serve", "--port", 0, "--comfyui", simulator.url, "--max-body-size", BODY_LIMIT)
    reply = curl(f"{process.url}/run", data=workflows.plain(prefix="first"))
    assert reply.status == 200, reply.body
    yield process.url
    process.stop()


@pytest.fixture
def start_bridge(binary, simulator):
    """Starts more bridges before the same simulator, for a test that needs other settings or the end of one."""
    started = []

    def start(*arguments):
        process = Process(binary, "serve", "--port", 0, "--comfyui", simulator.url, *arguments)
        started.append(process)
        return process

    yield start
    try:
        for process in started:
            process.stop()
    finally:
        # The other tests want this ComfyUI, and a bridge that is gone stops no run any more.
        curl("-X", "POST", f"{simulator.url}/queue", data={"clear": True})
        curl("-X", "POST", f"{simulator.url}/interrupt", data={})


@pytest.fixture
def lonely_bridge(binary):
    """A bridge whose ComfyUI does not listen: its port is bound, so nobody else takes it, and refuses."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        process = Process(binary, "serve", "--port", 0, "--comfyui", f"http://127.0.0.1:{taken.getsockname()[1]}", "--upstream-grace", 1)
        yield process.url
        process.stop()


@pytest.fixture(scope="session")
def contract():
    return Contract()


@pytest.fixture(scope="session")
def out():
    """Where the tests leave what a person may want to look at."""
    folder = ROOT / "out"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def new_page(browser):
    """Opens pages that collect what the console says; `page.complaints` is that list."""
    contexts = []

    def open_page(url, **options):
        context = browser.new_context(viewport={"width": 1400, "height": 1000}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.complaints = []
        page.on("console", lambda message: page.complaints.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture(params=[Comfy, AsyncComfy], ids=lambda client: client.__name__)
def connect(request, monkeypatch):
    """Makes clients of the official SDK, pointed at a bridge as its users do it. Each test runs with both kinds."""
    monkeypatch.delenv("COMFY_API_KEY", raising=False)
    with contextlib.ExitStack() as stack:

        def connect(url, **options):
            monkeypatch.setenv("COMFY_BASE_URL", url)
            client = request.param(**options)
            if request.param is Comfy:
                return stack.enter_context(client)
            loop = stack.enter_context(EventLoop())
            stack.callback(lambda: loop.run(client.aclose()))
            return Waiting(client, loop)

        yield connect


@pytest.fixture
def client(bridge, connect):
    """A client of the bridge. What it leaves running is canceled, so that a test that fails takes no other along."""
    yield connect(bridge)
    for job in curl(f"{bridge}/api/v2/jobs?status=queued,running").json()["jobs"]:
        curl("-X", "POST", f"{bridge}{job['urls']['cancel']}")
