"""The README's tables say what the program says."""

import re
import subprocess

import pytest

from contract import ROOT

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
    options = re.findall(r"^\s+--([\w-]+)(?: (\w+))? .*?(?:\[([^\]]*)\])?$", helped, re.MULTILINE)
    assert [row[:2] for row in documented] == [option[:2] for option in options]
    assert {row[0]: row[2].strip() for row in documented if dict((o[0], o[2]) for o in options)[row[0]]} == {o[0]: o[2] for o in options if o[2]}
