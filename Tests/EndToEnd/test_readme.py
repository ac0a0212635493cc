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


@pytest.mark.parametrize("command", ["serve", "simulate"])
def test_table_of_flags_is_what_help_says(binary, command):
    table = section("Settings").split(f"`comfy-bridge {command}`")[1].split("\n\n")[1]
    documented = re.findall(r"^\| `--([\w-]+) ", table, re.MULTILINE)
    help_text = subprocess.run([binary, command, "--help"], capture_output=True, text=True, timeout=30, check=True).stdout
    assert documented == [name for name in re.findall(r"^\s+--([\w-]+)", help_text, re.MULTILINE) if name != "help"]
