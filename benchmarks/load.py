"""What a full store costs: pages over 200 runs of 50 lengths, and claims of a sweep of 5,000 cells.

    python benchmarks/load.py [--root FOLDER] [--runs 200] [--lengths 50] [--cells 5000] [--out load.json]

A store is made once in the folder, ten runs by the recorder that a training has, the others as copies of their rows and
files; what is there is measured again. Each page is timed twice in one process, the second time with everything loaded:
in seconds of the clock, and of the processor, which other programs on the machine do not lengthen. Then as a command of
its own, libraries included, also the second of two calls.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from extrapo.bench.machine import this_machine
from extrapo.cli import run as command
from extrapo.config import RunConfig
from extrapo.location import Location
from extrapo.sweep.queue import CELL, Queue
from extrapo.sweep.spec import SweepSpec
from extrapo.sweep.storage import DATABASE, open_storage
from extrapo.sweep.study import create_study
from extrapo.tracking import Recorder, RunStore
from extrapo.tracking.pages import bring_up_to_date
from extrapo.tracking.server import serve

ENCODINGS = ("nope", "rope", "alibi", "cable", "k-cable", "kerple-log", "t5", "fire", "fox", "path")
TRAIN_LENGTH, STEPS, BLOCKS = 256, 250, 64


def rows(lengths: int, number: int) -> list[dict[str, Any]]:
    """A curve of so many lengths, of no model."""
    found = []
    for i in range(1, lengths + 1):
        nll = 3.0 + 0.001 * number + 0.01 * math.sin(i)
        row = {"length": 64 * i, "nll": nll, "ppl": math.exp(nll), "low": nll - 0.1, "high": nll + 0.1}
        terms = {"tokens": 32768, "protocol": "disjoint", "description": "disjoint windows", "stride": 64 * i}
        text = dict.fromkeys(("corpus_sha256", "tokenizer_sha256"), "0" * 64)
        found.append({**row, "bits_per_byte": nll / 2, **terms, **text})
    return found


def fill(root: Path, runs: int, lengths: int) -> None:
    """Record a run of each encoding, and copies of it under other seeds until there are as many as are asked for."""
    store = RunStore.open(Location(root))
    own = [run.run_id for run in store.recorded()]
    for number in range(len(own), min(runs, len(ENCODINGS))):
        config = RunConfig(encoding=ENCODINGS[number], layers=2)
        settings = config.resolved().model_dump(mode="json")
        recorder = Recorder.start(store, settings["name"], config=settings)
        of_run = rows(lengths, number)
        losses = {row["length"]: {"nll": [row["nll"]] * BLOCKS, "tokens": [512.0] * BLOCKS} for row in of_run}
        recorder.curve(of_run, train_length=TRAIN_LENGTH, encoding=config.encoding, step=STEPS, blocks=losses)
        recorder.finish("FINISHED")
        own.append(recorder.run_id)
    there = len(own)
    with sqlite3.connect(root / "mlflow.db") as database:
        for number in range(there, runs):
            copy_run(database, own[number % len(ENCODINGS)], f"{number:032x}", number // len(ENCODINGS))


def copy_run(database: sqlite3.Connection, of: str, run_id: str, seed: int) -> None:
    """The rows and the files of a run once more, under another id and another seed."""
    for table in ("runs", "tags", "params", "metrics", "latest_metrics"):
        columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        own = ", ".join(f"'{run_id}'" if name == "run_uuid" else f'"{name}"' for name in columns)
        database.execute(f"INSERT INTO {table} SELECT {own} FROM {table} WHERE run_uuid = ?", (of,))
    database.execute("UPDATE params SET value = ? WHERE key = 'seed' AND run_uuid = ?", (str(seed), run_id))
    (where,) = database.execute("SELECT artifact_uri FROM runs WHERE run_uuid = ?", (of,)).fetchone()
    new = where.replace(of, run_id)
    database.execute("UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", (new, run_id))
    shutil.copytree(where, new)
    config = Path(new, "config.yaml")
    config.write_text(config.read_text("utf-8").replace("seed: 0", f"seed: {seed}"), encoding="utf-8")


def timed(what: Callable[[], Any]) -> dict[str, float]:
    """Seconds of the clock and of the processor, children's included, of the second of two calls."""
    what()
    clock, processor = time.perf_counter(), busy()
    what()
    return {"seconds": round(time.perf_counter() - clock, 3), "cpu": round(busy() - processor, 3)}


def busy() -> float:
    """Seconds of the processor that this process and its children have had."""
    return sum(os.times()[:4])


def quietly(*words: str) -> Callable[[], None]:
    """A command whose output nobody reads."""

    def call() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            code = command(words)
        assert code == 0, words

    return call


def alone(*words: str) -> Callable[[], None]:
    """The same in a process of its own, as from a shell."""
    line = [sys.executable, "-m", "extrapo", *words]

    def call() -> None:
        subprocess.run(line, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    return call


def pages(root: Path) -> dict[str, dict[str, float]]:
    """Each page."""
    location = Location(root)
    store = RunStore.existing(location)
    at, ids = ["--root", str(root)], [run.run_id for run in store.recorded()]
    experiment = str(store.client.get_run(ids[0]).info.experiment_id)
    found = {
        "list runs": timed(quietly("list", "runs", *at)),
        "compare, all runs": timed(quietly("compare", *at)),
        "report, all runs": timed(quietly("report", *ids, "--output", str(root / "report-all"), *at)),
        "compare, 2 runs": timed(quietly("compare", *ids[:2], *at)),
        "report, 2 runs": timed(quietly("report", *ids[:2], "--output", str(root / "report"), *at)),
        "ui: cells before it starts": timed(lambda: bring_up_to_date(store, experiment)),
        "a command: list runs": timed(alone("list", "runs", *at)),
        "a command: compare, all runs": timed(alone("compare", *at)),
        "a command: report, all runs": timed(alone("report", *ids, "--output", str(root / "report-all"), *at)),
    }
    # A server on a busy machine may not come up: what is known by then is said.
    print(json.dumps(found, indent=2), file=sys.stderr)
    with serve(location) as server:

        def first_page() -> None:
            asked = json.dumps({"experiment_ids": [experiment], "max_results": 100}).encode()
            url = f"{server.url}/ajax-api/2.0/mlflow/runs/search"
            with urlopen(Request(url, asked, {"Content-Type": "application/json"})) as answer:
                assert len(json.load(answer)["runs"]) == min(100, len(ids))

        found["ui: first page"] = timed(first_page)
    return found


def claims(root: Path, cells: int) -> dict[str, float]:
    """Of a sweep: to queue a cell, to claim one, to look for the dead; seconds each."""
    seeds = {"kernel": ["log", "power", "linear", "sqrt", "student"], "seed": list(range(cells // 5))}
    spec = SweepSpec(name="load", space=seeds, objective="ppl@2T")
    storage = open_storage(None, root)
    queue = Queue(spec, create_study(spec, storage), storage)
    # The first hundred as a sweep has them, the others as copies of their rows, which do the same.
    name = f"part-{time.time_ns()}"
    part = SweepSpec(**{**spec.model_dump(), "name": name, "space": {**seeds, "seed": list(range(20))}})
    few = Queue(part, create_study(part, storage), storage)
    began = time.perf_counter()
    few.enqueue_missing()
    found = {"queue a cell": (time.perf_counter() - began) / 100}
    queue_by_rows(root / DATABASE, spec)
    queue.claim()
    for name, what in (("claim a cell", queue.claim), ("look for the dead", queue.reap_dead)):
        clock, processor = time.perf_counter(), time.process_time()
        for _ in range(10):
            what()
        found[name] = (time.perf_counter() - clock) / 10
        found[f"{name}, cpu"] = (time.process_time() - processor) / 10
    return {name: round(seconds, 4) for name, seconds in found.items()}


def queue_by_rows(path: Path, spec: SweepSpec) -> None:
    """The cells of a sweep, as Optuna keeps what is queued; none where some are there from the last time."""
    with sqlite3.connect(path) as database:
        (study,) = database.execute("SELECT study_id FROM studies WHERE study_name = ?", (spec.name,)).fetchone()
        if database.execute("SELECT 1 FROM trials WHERE study_id = ?", (study,)).fetchone():
            return
        trial = "INSERT INTO trials (number, study_id, state) VALUES (?, ?, 'WAITING')"
        for number, cell in enumerate(spec.cells()):
            trial_id = database.execute(trial, (number, study)).lastrowid
            for table, key, value in (("user", CELL, number), ("system", "fixed_params", cell)):
                attribute = f"INSERT INTO trial_{table}_attributes (trial_id, key, value_json) VALUES (?, ?, ?)"
                database.execute(attribute, (trial_id, key, json.dumps(value)))


def main() -> None:
    """Make, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("load-runs"))
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--lengths", type=int, default=50)
    parser.add_argument("--cells", type=int, default=5000)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    found: dict[str, Any] = {"machine": this_machine(), "runs": asked.runs, "lengths": asked.lengths}
    if asked.runs:
        fill(asked.root, asked.runs, asked.lengths)
        found["pages"] = pages(asked.root)
    if asked.cells:
        found |= {"cells": asked.cells, "sweep": claims(asked.root / "sweep", asked.cells)}
    text = json.dumps(found, indent=2)
    print(text)
    if asked.out:
        asked.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
