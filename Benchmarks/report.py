"""results.json, and REPORT.md with its plots, which are made of it."""
import json

import plots


class Results:
    """By workload. Those of an earlier run stay until the workload is run again, so that one can be measured anew by itself."""

    def __init__(self, folder):
        self.folder = folder
        self.path = folder / "results.json"
        self.workloads = json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else {}

    def add(self, name, result):
        self.workloads[name] = result
        # Numbers in a row on one line: the file is read by people, too, and compared by git.
        text = json.dumps(self.workloads, ensure_ascii=False, indent=1)
        self.path.write_text(_rows_on_one_line(text) + "\n", encoding="utf-8")

    def write(self, order):
        present = {name: self.workloads[name] for name in order if name in self.workloads}
        parts = [HEAD, _bars(present)]
        for name, result in present.items():
            parts += _section(name, result)
            for plot in result.get("plots", []):
                file = self.folder / "plots" / f"{plot['name']}.svg"
                file.parent.mkdir(exist_ok=True)
                plots.draw(plot, file)
                parts.append(f"![{plot['title']}](plots/{file.name})\n")
        (self.folder / "REPORT.md").write_text("\n".join(parts), encoding="utf-8")

    def summary(self, order):
        """For the README."""
        return table([["what", "bar", "measured"]] + [
            [bar["name"], bar["bar"], bar["value"] + ("" if bar["met"] else " (**not met**)")]
            for name in order for bar in self.workloads.get(name, {}).get("bars", [])])


HEAD = """# Benchmarks

Written by `scripts/bench`. Everything that is compared was run in turn (A B A B …) on the same machine against the same simulated ComfyUI
(`comfy-bridge simulate`), and what was received was checked: a run with a wrong answer has no figures. A cell is the median of the rounds, with
the least and the greatest behind it; a ratio is the median of the rounds' ratios. `results.json` has the rounds.
"""


def table(rows):
    head, *body = rows
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in body]) + "\n"


def _bars(workloads):
    rows = [["bar", "set", "measured", "met", "by"]]
    for result in workloads.values():
        for bar in result["bars"]:
            rows.append([bar["name"], bar["bar"], bar["value"], "yes" if bar["met"] else "**no**", bar["distance"]])
    met = sum(row[3] == "yes" for row in rows)
    return f"## The bars: {met} of {len(rows) - 1} met\n\n" + table(rows)


def _section(name, result):
    yield f"## {result['title']}\n"
    if "text" in result:
        yield result["text"].strip() + "\n"
    for one in result["tables"]:
        if "caption" in one:
            yield f"**{one['caption']}**\n"
        yield table(one["rows"])
    measured = result["measured"]
    versions = ", ".join(f"{program} {version}" for program, version in measured["versions"].items())
    yield f"<sub>`{measured['command']}`, {measured['at']}, {measured['seconds']} s. {measured['machine']}. {versions}.</sub>\n"


def _rows_on_one_line(text):
    lines, row = [], None
    for line in text.splitlines():
        stripped = line.strip()
        if row is not None and (stripped[:1] in "-0123456789" or stripped in ("]", "],")):
            row.append(stripped)
            if stripped.startswith("]"):
                lines.append(row[0] + " ".join(row[1:-1]) + row[-1])
                row = None
            continue
        if row is not None:
            lines.extend(row)
            row = None
        if stripped.endswith("["):
            row = [line]
        else:
            lines.append(line)
    return "\n".join(lines + (row or []))
