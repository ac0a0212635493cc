"""What a job, an event and a workflow cost as there come to be more of them."""
import contextlib
import itertools
import json
import shutil
import sqlite3
import time
import uuid

import figures
import graphs
from context import note, session

STORED = [10, 1_000, 100_000]
JOBS = 250
"""Of a round, for each size of the store."""
EVENTS = [10, 100, 1_000]
EVENT_JOBS = {10: 60, 100: 20, 1_000: 4}
WORKFLOWS = {"10 KB": (10_000, 100), "100 KB": (100_000, 40), "1 MB": (1_000_000, 10), "5 MB": (5_000_000, 4)}
"""Size, and jobs of a round."""
FLAT = 1.2
TEMPLATES = 10

TEXT = """
Finished jobs: a store is filled by running 10 jobs and copying their rows, under new ids, until there are so many; some of the copies are asked for
before anything is measured. Events: a job of so many, made by a chain of nodes; `replay` is a viewer who comes after the end and gets all of them.
(While such a job runs ComfyUI names all of its nodes in every message of progress, so that the bridge has the more to read the more nodes there are.)
Workflows: a job of one step, in a graph that has so much more in it that is not run.
"""


async def measure(context):
    with context.simulator() as simulator:
        parts = [await _stored(context, simulator), await _events(context, simulator), await _workflows(context, simulator)]
    return {
        "title": "Growth", "text": TEXT, "tables": [part["table"] for part in parts], "bars": [bar for part in parts for bar in part["bars"]],
        "plots": [part["plot"] for part in parts], "raw": {name: part["raw"] for name, part in zip(("stored", "events", "workflows"), parts)},
    }


# MARK: Finished jobs

async def _stored(context, simulator):
    sizes = context.pick(STORED, STORED[:2] + [10_000])
    folders = {}
    for size in sizes:
        folder = context.new_folder("data")
        await _fill(context, simulator, folder, size)
        folders[size] = folder

    def side(size):
        async def run():
            # As it was, where that costs nothing; to write a large one anew would keep the disk busy meanwhile.
            folder = folders[size]
            if size <= 1_000:
                folder = shutil.copytree(folder, context.new_folder("copy") / "data")
            began = time.perf_counter()
            async with context.ready_bridge(simulator, "--retained-jobs", 2 * max(sizes), data=folder) as bridge:
                ready = (time.perf_counter() - began) * 1000
                await context.load("run", "--url", bridge.url, "--jobs", 20, "--kind", "picture")
                cpu = bridge.cpu_seconds()
                result = await context.load("run", "--url", bridge.url, "--jobs", JOBS, "--kind", "picture")
                return {
                    "p50": result["latency"]["p50"], "p99": result["latency"]["p99"], "cpu_ms": (bridge.cpu_seconds() - cpu) * 1000 / JOBS,
                    "ready_ms": ready, "resident_mb": bridge.resident_kb() / 1024,
                }
        return run

    rounds = await context.in_turn(context.pick(5, 2), **{str(size): side(size) for size in sizes})
    found = {size: figures.columns(rounds[str(size)]) for size in sizes}
    least, most = found[sizes[0]], found[sizes[-1]]
    rows = [["finished jobs", "`/run`, p50", "ratio to the first", "p99", "CPU of the bridge per job", "ratio to the first", "start to ready", "resident"]]
    for size, by in found.items():
        rows.append([
            figures.number(size), figures.cell(by["p50"], "ms"), figures.cell(figures.ratios(by["p50"], least["p50"])), figures.cell(by["p99"], "ms"),
            figures.cell(by["cpu_ms"], "ms"), figures.cell(figures.ratios(by["cpu_ms"], least["cpu_ms"])), figures.cell(by["ready_ms"], "ms"),
            figures.cell(by["resident_mb"], "MB")])
    span = f"{figures.number(sizes[-1])} finished jobs to {sizes[0]}"
    return {
        "table": {"caption": "Finished jobs in the store", "rows": rows},
        "bars": [
            figures.at_most(f"latency of a job, {span}", FLAT, figures.median_ratio(most["p50"], least["p50"]), "×"),
            figures.at_most(f"CPU of a job, {span}", FLAT, figures.median_ratio(most["cpu_ms"], least["cpu_ms"]), "×"),
        ],
        "plot": {
            "name": "growth-jobs", "title": "A job with finished jobs in the store", "x": "finished jobs", "y": "ms", "log": "x",
            "series": {"POST /run, p50": figures.line(found, lambda by: by["p50"]), "CPU of the bridge": figures.line(found, lambda by: by["cpu_ms"])},
        },
        "raw": found,
    }


async def _fill(context, simulator, folder, size):
    """Jobs that were run, and copies of their rows: whatever the tables are, only ids differ."""
    async with context.ready_bridge(simulator, data=folder) as bridge:
        await context.load("run", "--url", bridge.url, "--jobs", min(size, TEMPLATES), "--kind", "picture")
    if size <= TEMPLATES:
        return
    began = time.monotonic()
    path = folder / "comfy-bridge.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA synchronous = OFF")
        names = [name for name, in database.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")]
        columns = {name: [row[1] for row in database.execute(f"PRAGMA table_info({name})")] for name in names}
        templates = [_Template(database, columns, place, job) for place, job in database.execute("SELECT place, id FROM jobs").fetchall()]
        last = max(template.place for template in templates)
        copies = [(last + number, templates[number % TEMPLATES]) for number in range(1, size - TEMPLATES + 1)]
        for begin in range(0, len(copies), 2000):
            rows = {}
            for place, template in copies[begin:begin + 2000]:
                for table, row in template.copy(place):
                    rows.setdefault(table, []).append(row)
            for table in sorted(rows, key=lambda table: table != "jobs"):  # which the others refer to
                database.executemany(f"INSERT INTO {table} ({', '.join(columns[table])}) VALUES ({', '.join('?' * len(columns[table]))})", rows[table])
        database.commit()
        copied = [row[0] for row in database.execute("SELECT id FROM jobs WHERE place > ? ORDER BY place", [last]).fetchall()]
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    async with context.ready_bridge(simulator, "--retained-jobs", 2 * size, data=folder) as bridge, session() as http:
        for job in copied[::max(1, len(copied) // 5)]:
            await _check(http, bridge, job)
    note(f"{size} jobs in the store after {time.monotonic() - began:.1f} s, {path.stat().st_size / 1e6:.0f} MB")


class _Template:
    """All rows of a job."""

    def __init__(self, database, columns, place, job):
        self.place = place
        keys = {"jobs": "place", **{table: "job" for table, names in columns.items() if "job" in names and table != "idempotency_keys"}}
        self.rows = [
            (table, columns[table], row) for table, key in keys.items() for row in database.execute(f"SELECT * FROM {table} WHERE {key} = ?", [place])]
        self.keys = keys
        assets = [row[0] for row in database.execute("SELECT id FROM assets WHERE job = ?", [place])]
        self.ids = [job, *assets]

    def copy(self, place):
        new = {old: str(uuid.uuid4()) for old in self.ids}
        for table, names, row in self.rows:
            copied = []
            for name, value in zip(names, row):
                if name == self.keys[table]:
                    value = place
                elif isinstance(value, str):
                    for old, fresh in new.items():
                        value = value.replace(old, fresh)
                copied.append(value)
            yield table, copied


async def _check(http, bridge, job):
    """A copied job is a job: its picture, its events, its workflow."""
    async with http.get(f"{bridge.url}/api/v2/jobs/{job}") as answer:
        found = await answer.json()
    if found.get("status") != "succeeded" or len(found["outputs"]) != 1:
        raise RuntimeError(f"a copied job is {found}")
    async with http.get(found["outputs"][0]["url"]) as answer:
        if not (await answer.read()).startswith(b"\x89PNG"):
            raise RuntimeError("the output of a copied job is no picture")
    if await _replay(http, bridge, job) < 3:
        raise RuntimeError("a copied job has no events")


# MARK: Events

async def _events(context, simulator):
    found = {}
    async with context.ready_bridge(simulator) as bridge, session() as http:
        colours = itertools.count(1)

        def side(count):
            nodes = count // 2 - 1  # each of which begins and ends
            jobs = context.pick(EVENT_JOBS[count], max(2, EVENT_JOBS[count] // 2))

            async def run():
                cpu, began, ids = bridge.cpu_seconds(), time.perf_counter(), []
                for _ in range(jobs):
                    async with http.post(f"{bridge.url}/run", json=graphs.chain(nodes, next(colours))) as answer:
                        job = await answer.json()
                    if job["status"] != "succeeded":
                        raise RuntimeError(f"a job of {nodes} nodes: {job}")
                    ids.append(job["id"])
                took, cpu = time.perf_counter() - began, bridge.cpu_seconds() - cpu
                cpu_replay, began = bridge.cpu_seconds(), time.perf_counter()
                events = sum([await _replay(http, bridge, job) for job in ids])
                if events < jobs * count * 0.8:
                    raise RuntimeError(f"{jobs} jobs of {nodes} nodes have {events} events")
                return {
                    "run_us": took * 1e6 / events, "cpu_us": cpu * 1e6 / events, "replay_us": (time.perf_counter() - began) * 1e6 / events,
                    "replay_cpu_us": (bridge.cpu_seconds() - cpu_replay) * 1e6 / events,
                }
            return run

        rounds = await context.in_turn(context.pick(5, 2), **{str(count): side(count) for count in EVENTS})
        found = {count: figures.columns(rounds[str(count)]) for count in EVENTS}
    rows = [["events of the job", "`/run`, per event", "CPU of the bridge, per event", "replay, per event", "its CPU, per event", "ratio to the first"]]
    for count, by in found.items():
        rows.append([
            figures.number(count), figures.cell(by["run_us"], "µs"), figures.cell(by["cpu_us"], "µs"), figures.cell(by["replay_us"], "µs"),
            figures.cell(by["replay_cpu_us"], "µs"), figures.cell(figures.ratios(by["replay_cpu_us"], found[EVENTS[0]]["replay_cpu_us"]))])
    return {
        "table": {"caption": "Events in the log of a job", "rows": rows}, "bars": [],
        "plot": {
            "name": "growth-events", "title": "Cost of an event by the number of them", "x": "events of the job", "y": "µs per event", "log": "xy",
            "series": {
                "run, CPU of the bridge": figures.line(found, lambda by: by["cpu_us"]), "replay, CPU of the bridge": figures.line(found, lambda by: by["replay_cpu_us"]),
            },
        },
        "raw": found,
    }


async def _replay(http, bridge, job):
    """How many events the job has, of which none is missing."""
    ids, last = [], None
    async with http.get(f"{bridge.url}/api/v2/jobs/{job}/events", headers={"Last-Event-ID": "0"}) as answer:
        if answer.status != 200:
            raise RuntimeError(f"the events of a finished job: {answer.status}")
        async for line in answer.content:
            if line.startswith(b"id: "):
                ids.append(int(line[4:]))
            elif line.startswith(b"data: "):
                last = line[6:]
    if ids != list(range(1, len(ids) + 1)) or json.loads(last)["status"] != "succeeded":
        raise RuntimeError(f"the events of a finished job have ids {ids[:20]}… and end with {last}")
    return len(ids)


# MARK: Workflows

async def _workflows(context, simulator):
    found = {}
    async with context.ready_bridge(simulator) as bridge:
        for label, (size, jobs) in WORKFLOWS.items():
            file = context.folder / f"workflow-{size}.json"
            file.write_text(json.dumps(graphs.large(size)), encoding="utf-8")
            jobs = context.pick(jobs, max(2, jobs // 4))

            def side(command, server, file=file, jobs=jobs):
                async def run():
                    cpu = server.cpu_seconds()
                    result = await context.load(command, "--url", server.url, "--jobs", jobs, "--workflow", file)
                    return {"p50": result["latency"]["p50"], "cpu_ms": (server.cpu_seconds() - cpu) * 1000 / jobs}
                return run

            rounds = await context.in_turn(context.pick(5, 2), direct=side("direct", simulator), run=side("run", bridge))
            found[label] = {name: figures.columns(results) for name, results in rounds.items()}
    rows = [["workflow", "direct, p50", "`/run`, p50", "ratio", "CPU of the bridge per job", "per MB"]]
    for label, by in found.items():
        run, direct = by["run"], by["direct"]
        rows.append([
            label, figures.cell(direct["p50"], "ms"), figures.cell(run["p50"], "ms"), figures.cell(figures.ratios(run["p50"], direct["p50"])),
            figures.cell(run["cpu_ms"], "ms"), figures.cell([value * 1e6 / WORKFLOWS[label][0] for value in run["cpu_ms"]], "ms")])
    return {
        "table": {"caption": "Size of the workflow", "rows": rows}, "bars": [],
        "plot": {
            "name": "growth-workflows", "title": "A job by the size of its workflow", "x": "workflow", "y": "ms", "log": "y",
            "series": {
                "ComfyUI directly": figures.line(found, lambda by: by["direct"]["p50"]), "POST /run": figures.line(found, lambda by: by["run"]["p50"]),
            },
        },
        "raw": found,
    }
