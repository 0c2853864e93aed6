"""The report of recorded runs holds what was recorded, in every kind that it is written as."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from extrapo.cli import run
from extrapo.config import RunConfig
from extrapo.errors import UserError
from extrapo.location import Location
from extrapo.run.fit import Result
from extrapo.run.report import report
from extrapo.tracking import Recorder, RunStore
from extrapo.tracking.sweeps import SWEEP


def recorded(store: RunStore, encoding: str, seed: int, sweep: str = "") -> str:
    """A run as a training leaves it, without the training."""
    config = RunConfig(encoding=encoding, seed=seed, layers=2, seq_len=64).resolved().model_dump(mode="json")
    tags = {"extrapo.parameters": "1234", **({SWEEP: sweep} if sweep else {})}
    recorder = Recorder.start(store, f"{encoding}-s{seed}", config=config, tags=tags)
    rows, blocks = [], {}
    for length in (64, 128, 256):
        loss = 4 + 0.1 * seed + (length / 640 if encoding == "rope" else 0)
        rows.append(
            {"length": length, "nll": loss, "ppl": float(np.exp(loss)), "bits_per_byte": loss / 3, "low": loss - 0.1}
            | {"high": loss + 0.1, "tokens": 1024, "protocol": "disjoint", "description": "side by side"}
        )
        blocks[length] = {"nll": [loss * 16 + part for part in range(8)], "tokens": [16] * 8}
    recorder.curve(rows, train_length=64, encoding=encoding, step=10, blocks=blocks)
    distance = np.arange(16)[:, None] - np.arange(16)[None]
    bias = np.where(distance < 0, -np.inf, -0.1 * distance).astype(np.float32)
    if encoding != "rope" and seed == 0:
        recorder.heatmaps(10, [np.stack([bias, 2 * bias])])
    recorder.finish("FINISHED")
    return recorder.run_id


@pytest.fixture(scope="module")
def location(tmp_path_factory: pytest.TempPathFactory) -> Location:
    return Location(tmp_path_factory.mktemp("report") / "runs")


@pytest.fixture(scope="module")
def runs(location: Location) -> list[str]:
    store = RunStore.open(location)
    ids = [recorded(store, encoding, seed, "asked") for encoding in ("rope", "k-cable") for seed in (0, 1)]
    client = store.client
    verdict: dict[str, Any] = {"verdicts": {"normalisation": True}, "reasons": {"normalisation": "a sum that ends"}}
    row = {"length": 64, "source": "measured", "ln_z": 3.25, "entropy": 2.5}
    client.log_text(ids[2], json.dumps({"rows": [row], "corpus": "a text", **verdict}), "theory/theory.json")
    found = {"length": 64, "accuracy": 0.75, "low": 0.7, "high": 0.8, "n": 100, "chance": 0.1, "places": []}
    client.log_text(ids[2], json.dumps({"task": "passkey", "results": [found]}), "probes/passkey.json")
    return ids


def test_everything_that_was_recorded_is_in_it(location: Location, runs: list[str], tmp_path: Path) -> None:
    made = report(runs, location, output=tmp_path / "out", question="Does it hold?", made_by="extrapo report 'it'")
    html, plain, tables = (made[kind].read_text("utf-8") for kind in ("html", "markdown", "latex"))
    for text in (html, plain):
        # The mean over two seeds of e^4.05 at T, and at 4T of rope.
        for words in ("Does it hold?", "57.40 ± 4.2", f"{np.exp(4.05 + 0.4):.2f}", "side by side", "1,024 tokens"):
            assert words in text, words
        for words in ("reconstruction", "a sum that ends", "75.0%", "extrapo fit --layers 2 --seq-len 64", "3.25"):
            assert words in text, words
    assert "extrapo report &#x27;it&#x27;" in html
    assert r"57.40 $\pm$ 4.2" in tables
    names = {path.name for path in (tmp_path / "out" / "pictures").iterdir()}
    assert {"curves.svg", "curves.pdf", "context-gain.svg", "bias-k-cable.png"} <= names
    for name in names - {"curves.pdf", "context-gain.pdf"}:
        assert name in plain


def test_a_sweep_is_its_runs(location: Location, runs: list[str], tmp_path: Path) -> None:
    page = tmp_path / "asked.html"
    assert report([], location, sweep="asked", output=page) == {"html": page}
    assert all(run[:8] in page.read_text("utf-8") for run in runs)
    with pytest.raises(UserError, match="no finished run of a sweep"):
        report([], location, sweep="another", output=page)
    with pytest.raises(UserError, match="name runs, or a `sweep`"):
        report(runs, location, sweep="asked")


def test_the_command_writes_one_page_of_a_real_run(
    finished: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "one.html"
    root = str(Location.of(finished.config).root)
    assert run(["report", finished.run_id, "--output", str(page), "--root", root, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"html": str(page)}
    text = page.read_text("utf-8")
    assert f"{finished.points[0].row()['ppl']:,.2f}" in text
    assert run(["report", "--root", root]) == 2


def test_a_run_has_a_report_of_its_own_in_the_record(finished: Result) -> None:
    client = RunStore.existing(Location.of(finished.config)).client
    page = Path(client.download_artifacts(finished.run_id, "report.html")).read_text("utf-8")
    assert f"{finished.points[0].row()['ppl']:,.2f}" in page
    assert "data:image/png;base64," in page
    assert "explorer.html" in page


@pytest.mark.chaos
def test_24_runs_are_reported_in_half_a_minute(tmp_path: Path) -> None:
    location = Location(tmp_path / "runs")
    store = RunStore.open(location)
    names = ("rope", "alibi", "k-cable", "cable", "fox", "t5", "kerple-log", "nope")
    ids = [recorded(store, encoding, seed) for encoding in names for seed in range(3)]
    began = time.process_time()
    report(ids, location, output=tmp_path / "out")
    assert time.process_time() - began < 30


@pytest.mark.slow
def test_what_only_reads_loads_neither_pytorch_nor_mlflow(runs: list[str], location: Location, tmp_path: Path) -> None:
    """They take seconds, of which two hundred recorded runs need none."""
    root, ids = ["--root", str(location.root)], runs[:2]
    commands = [
        ["list", "runs", *root],
        ["compare", *ids, *root],
        ["report", *ids, "--output", str(tmp_path / "report"), *root],
    ]
    code = (
        "import json, sys; from extrapo.cli import run; codes = [run(words) for words in json.loads(sys.argv[1])];"
        "print(codes, [m for m in ('torch', 'mlflow', 'sqlalchemy', 'lightning', 'scipy') if m in sys.modules])"
    )
    line = [sys.executable, "-c", code, json.dumps(commands)]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    # The first one asks the encodings for their families.
    said = [subprocess.run(line, capture_output=True, text=True, check=True, env=environment) for _ in range(2)]
    assert said[1].stdout.splitlines()[-1] == "[0, 0, 0] []", said[1].stderr
    assert (tmp_path / "report/report.html").is_file()
