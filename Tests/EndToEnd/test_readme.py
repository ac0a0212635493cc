"""The README's tables say what the program says, and its commands do what they say."""

import os
import re
import shutil
import subprocess
import sys

import pytest

import workflows
from contract import ROOT
from http_client import curl

README = (ROOT / "README.md").read_text(encoding="utf-8")


def section(title):
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_table_of_errors_is_complete(contract):
    codes = re.findall(r"^\| \d{3} \| `(\w+)` \|", section("Errors"), re.MULTILINE)
    assert sorted(codes) == sorted(contract.components["schemas"]["ErrorCode"]["enum"])


@pytest.mark.parametrize("command", ["serve", "simulate", "health"])
def test_table_of_flags_is_what_help_says(binary, command):
    table = section("Settings").split(f"`comfy-bridge {command}`")[1].split("\n\n")[1]
    documented = re.findall(r"^\| `--([\w-]+)(?: (\w+))?` \|([^|]*)\|", table, re.MULTILINE)
    text = subprocess.run([binary, "--help"], capture_output=True, text=True, timeout=30, check=True).stdout
    helped = re.split(rf"^comfy-bridge \[?{command}\]? ", text, flags=re.MULTILINE)[1].split("\n\n")[0]
    options = re.findall(r"^\s+--([\w-]+)(?: (\w+))? .*?(?: \[([^\]]*)\])?$", helped, re.MULTILINE)
    assert [row[:2] for row in documented] == [option[:2] for option in options]
    assert {row[0]: row[2].strip() for row in documented if dict((o[0], o[2]) for o in options)[row[0]]} == {o[0]: o[2] for o in options if o[2]}


@pytest.fixture
def workplace(bridge, tmp_path):
    """A folder with the files that the README names."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    shutil.copy(ROOT / "examples/quick.json", tmp_path / "workflow_api.json")
    picture = curl("-H", "Accept: image/png", f"{bridge}/run", data=workflows.plain(color=0x123456))
    (tmp_path / "photo.png").write_bytes(picture.body)
    return tmp_path


@pytest.mark.parametrize("title", ["Jobs", "Assets"])
def test_commands_work(bridge, workplace, title):
    job = curl(f"{bridge}/run", data=workflows.txt2img(steps=2, seed=105)).json()
    asset = curl("-F", f"file=@{workplace / 'photo.png'}", f"{bridge}/api/v2/assets").json()
    script = "\n".join(re.findall(r"^    (.*)$", section(title), re.MULTILINE))
    assert script.count("curl ") >= 8
    script = script.replace("http://localhost:8189", bridge).replace("curl ", "curl --fail-with-body ")
    done = subprocess.run(
        ["bash", "-eux", "-o", "pipefail", "-c", script], cwd=workplace, capture_output=True, timeout=60,
        env={**os.environ, "ID": job["id"], "ASSET": asset["id"], "HASH": asset["hash"]})
    assert done.returncode == 0, done.stderr.decode() + done.stdout.decode(errors="replace")


def test_example_of_the_sdk_works(bridge, workplace):
    (code,) = re.findall(r"```python\n(.*?)```", section("The SDK"), re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=workplace, capture_output=True, text=True, timeout=60, env={**os.environ, "COMFY_BASE_URL": bridge})
    assert done.returncode == 0, done.stderr
    (picture,) = workplace.glob("img2img_*.png")
    assert picture.read_bytes().startswith(b"\x89PNG")
