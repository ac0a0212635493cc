"""What the documents and the comments say of each other is there."""

import re

import pytest

from contract import ROOT

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
PROTOCOL = ROOT / "docs/comfyui-protocol.md"
ARCHITECTURE = ROOT / "docs/architecture.md"
RECORDINGS = ROOT / "Tests/ComfyUITests/Recordings"

OTHERS = {"AsyncStream", "Mutex", "ServiceGroup", "String"}
"""Types of Swift and its packages."""


def headings(path):
    return re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)


def anchor(heading):
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_every_section_of_the_protocol_that_code_cites_is_there():
    sections = {heading.split()[0].rstrip(".") for heading in headings(PROTOCOL)}
    steps = re.findall(r"^(\d+)\. ", PROTOCOL.read_text(encoding="utf-8").split("\n## 17")[1], re.MULTILINE)
    sections |= {f"17.{step}" for step in steps}
    cited = {}
    for folder in ("Sources", "Tests"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in {".swift", ".py", ".h", ".c"}:
                for number in re.findall(r"[Pp]rotocol(?:\.md,)? section (\d+(?:\.\d+)?)", path.read_text(encoding="utf-8")):
                    cited.setdefault(number, path.name)
    assert len(cited) > 15
    assert {number: name for number, name in cited.items() if number not in sections} == {}


def test_every_scenario_that_the_protocol_names_is_recorded():
    recorded = {path.stem for path in RECORDINGS.rglob("*.jsonl")}
    groups = re.findall(r"\(((?:`\w+`(?:,\s+)?)+)\)", PROTOCOL.read_text(encoding="utf-8"))
    named = {name for group in groups for name in re.findall(r"`(\w+)`", group) if "_" in name}
    assert len(named) > 25
    assert named - recorded == set()


def test_every_type_and_file_that_the_architecture_names_is_there():
    sources = sorted((ROOT / "Sources").rglob("*.swift")) + sorted((ROOT / "Tests").rglob("*.swift"))
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    known = set(re.findall(r"\b(?:class|struct|enum|protocol|actor|typealias|extension) (?:\w+\.)*(\w+)", text))
    known |= {path.name for path in (ROOT / "Sources").iterdir()} | {path.name for path in sources} | {path.stem for path in sources}
    members = set(re.findall(r"\b(?:func|var|let|case) (\w+)", text))
    unknown = set()
    for span in re.findall(r"`([A-Z]\w+(?:[.+]\w+)*)(?:\([\w:]*\))?`", ARCHITECTURE.read_text(encoding="utf-8")):
        name, _, member = span.partition(".")
        is_declared = span in known or (name in known | OTHERS and (not member or member in members | known))
        if not is_declared and not (ROOT / span).exists():
            unknown.add(span)
    for span in re.findall(r"`((?:Sources|Tests)/[^`]*)`", ARCHITECTURE.read_text(encoding="utf-8")):
        if not (ROOT / span).exists():
            unknown.add(span)
    assert unknown == set()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_inside_of_the_repository_lead_somewhere(path):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if "://" in target or target.startswith("mailto:"):
            continue
        file, _, fragment = target.partition("#")
        other = (path.parent / file) if file else path
        if not other.exists() or (fragment and fragment not in {anchor(heading) for heading in headings(other)}):
            broken.append(target)
    assert broken == []
