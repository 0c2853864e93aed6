"""Commands that are killed at any moment, and finish with equal results when they are given again.

`EXTRAPO_KILL_SEED` draws other moments, `EXTRAPO_KILLS` says how many there are of the long table.
"""

from __future__ import annotations

import json
import os
import random
import re
import resource
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
import yaml

from extrapo.config import RunConfig
from extrapo.sweep.queue import by_cell
from extrapo.sweep.storage import open_storage
from extrapo.tracking import RecordedRun, runs, sweeps
from extrapo.training import read_checkpoint
from forks import Forked, Forks

SEED = int(os.environ.get("EXTRAPO_KILL_SEED", "0"))
KILLS = int(os.environ.get("EXTRAPO_KILLS", "100"))
#: Of a training, what is the same however often it was stopped.
SCALARS = ("train/loss", "train/lr", "train/grad_norm", "train/tokens", "val/loss", "extrapolation/nll", "probe/copy")
#: What is left of a process that could not end by itself.
LEFT_OVER = ("*.partial", ".mlflow-partial-*", "undelivered")


def kill(process: Forked) -> None:
    """As the kernel does, out of memory."""
    process.send(signal.SIGKILL)


def terminate(process: Forked) -> None:
    """As a scheduler does."""
    process.send(signal.SIGTERM)


def interrupt(process: Forked) -> None:
    """Ctrl-C."""
    process.send(signal.SIGINT)


def interrupt_twice(process: Forked) -> None:
    """Somebody in a hurry."""
    process.send(signal.SIGINT)
    time.sleep(0.1)
    process.send(signal.SIGINT)


def starve(process: Forked) -> None:
    """No more memory than there is now."""
    try:
        pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + 2**20
        resource.prlimit(process.pid, resource.RLIMIT_AS, (limit, limit))
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return


ENDS = (kill, kill, terminate, interrupt, interrupt_twice, starve)


def digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def left_over(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for pattern in LEFT_OVER for path in root.rglob(pattern))


def recorded(run: RecordedRun) -> dict[str, Any]:
    """All that a run's record says which does not depend on time."""
    client = run.store.client
    histories = {key: client.get_metric_history(run.run_id, key) for key in SCALARS}
    # MLflow names a picture by its moment; one that is drawn twice is there twice.
    names = (artifact.path for artifact in client.list_artifacts(run.run_id, "images"))
    pictures = sorted(re.sub(r"\+timestamp\+[^+]+\+[^+.]+", "", name) for name in names)
    return {
        "status": run.status,
        "scalars": {key: [(point.step, point.value) for point in history] for key, history in histories.items()},
        "curve": run.curve,
        "measured": {name: found["rows"] for name, found in run.measured.items()},
        "pictures": pictures,
        "heatmaps": {step: [layer.tolist() for layer in layers] for step, layers in run.heatmaps().items()},
    }


def trained(root: Path) -> dict[str, Any]:
    """What a root of one training holds; a run that was killed before it had a configuration is none."""
    run = next(iter(runs(root)))
    folder = root / run.run_id
    checkpoints = {name: read_checkpoint(folder / name)["state_dict"] for name in ("last.ckpt", "best.ckpt")}
    weights = {name: {key: value.tolist() for key, value in of.items()} for name, of in checkpoints.items()}
    files = sorted(path.name for path in folder.iterdir())
    return {
        **recorded(run),
        "weights": weights,
        "files": files,
    }


def prepared(root: Path) -> dict[str, str]:
    """The files of the prepared text; when it was prepared is not of it."""
    return {path.name: digest(path) for path in sorted(root.rglob("*.bin"))}


def swept(root: Path) -> dict[str, Any]:
    """The cells of a sweep, what each came to, and its newest run: one that died before it had a tokenizer is none."""
    storage = open_storage(None, root)
    cells = by_cell(optuna.load_study(study_name="tiny", storage=storage.rdb).get_trials())
    of_cell: dict[str, dict[str, Any]] = {}
    for run in runs(root, experiment="tiny"):
        of_cell.setdefault(run.tags[sweeps.CELL], recorded(run))
    return {
        "cells": {number: [str(trial.state), trial.values, trial.params] for number, trial in sorted(cells.items())},
        "runs": dict(sorted(of_cell.items())),
    }


def reported(root: Path) -> dict[str, Any]:
    """The files of a report."""
    return {str(path.relative_to(root)): digest(path) for path in sorted((root / "report").rglob("*.*"))}


@dataclass
class Case:
    """A command: how it is given first, how again, and what it comes to."""

    name: str
    first: list[str]
    result: Callable[[Path], dict[str, Any]]
    again: Callable[[Path], list[str]] = field(default=lambda root: [])
    begin: Path | None = None
    environment: Callable[[Path], dict[str, str]] = field(default=lambda root: {})
    #: Below the root, where its last word leads.
    to: str | None = None
    seconds: float = 1.0
    whole: dict[str, Any] = field(default_factory=dict)


class Matrix:
    """The commands, each with the result of an undisturbed run."""

    def __init__(self, folder: Path, text: Path) -> None:
        self.folder, self.forks = folder, Forks(folder)
        self._prepare(text)
        config = RunConfig(
            layers=1,
            heads=2,
            dim=16,
            data="short",
            seq_len=32,
            steps=30,
            batch_size=4,
            val_every=4,
            val_tokens=256,
            log_every=1,
            eval_tokens=1024,
            heatmaps=3,
            accelerator="cpu",
            dropout=0.1,
            encoding="kerple-log",
        )
        (folder / "run.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json", exclude_unset=True)))
        database = folder / "database"
        self.cases: dict[str, Case] = {}
        fit = Case("fit", ["fit", "--config", str(folder / "run.yaml")], trained, self._resume, database)
        self._undisturbed(fit, None)
        (database).mkdir()
        finished = folder / "fit"
        shutil.copy(finished / "mlflow.db", database)
        self._empty(database / "mlflow.db")

        def first(root: Path) -> dict[str, Any]:
            return recorded(next(iter(runs(root))))

        evaluate = ["evaluate", "last", "--lengths", "16", "48", "96", "--protocol", "sliding"]
        probe = ["probe", "last", "--task", "copy", "--lengths", "64", "96", "--items", "40"]
        self._undisturbed(Case("evaluate", evaluate, first, begin=finished), finished)
        self._undisturbed(Case("probe", probe, first, begin=finished), finished)
        report = ["report", "last", "--output"]
        self._undisturbed(Case("report", report, reported, begin=finished, to="report"), finished)
        plan = {"name": "tiny", "space": {"seed": [0, 1]}, "objective": "ppl@1T"}
        fixed = config.model_dump(mode="json", exclude_unset=True) | {"steps": 12, "heatmaps": 0}
        (folder / "sweep.yaml").write_text(yaml.safe_dump({**plan, "fixed": fixed}))
        self._undisturbed(Case("sweep", ["sweep", str(folder / "sweep.yaml")], swept), None)
        prepare = ["data", "prepare", f"text:{text}", "--tokenizer", "bpe", "--vocab-size", "300"]
        cache = {"environment": lambda root: {"EXTRAPO_CACHE": str(root)}}
        self._undisturbed(Case("prepare", prepare, prepared, **cache), None)

    def _prepare(self, text: Path) -> None:
        """A corpus by name, with splits of its own, over whose training split the 30 steps pass more than once."""
        rows = self.folder / "rows"
        rows.mkdir()
        code = (text / "heapq.py").read_text()
        for split, start, stop in (("train", 0, 2_000), ("valid", 2_000, 6_000)):
            stretches = [code[at : at + 200] for at in range(start, stop, 200)]
            (rows / f"{split}.jsonl").write_text("".join(json.dumps({"text": one}) + "\n" for one in stretches))
        arguments = ["data", "prepare", f"jsonl:{rows}", "--tokenizer", "byte", "--output", "short"]
        ended, err = self.forks.start(arguments, {"EXTRAPO_CACHE": str(self.folder / "cache")}).wait()
        assert ended == 0, err

    @staticmethod
    def _empty(database: Path) -> None:
        """The tables without a run, so that not each run has to make them."""
        import sqlite3

        with sqlite3.connect(database) as connection:
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                if name not in ("alembic_version", "experiments", "workspaces"):
                    connection.execute(f'DELETE FROM "{name}"')
            connection.execute("DELETE FROM experiments WHERE experiment_id != 0")

    def _resume(self, root: Path) -> list[str]:
        """What the interrupted command says, or the command itself where nothing is recorded."""
        return ["fit", "--resume", "last"] if (root / "mlflow.db").exists() and runs(root) else self.cases["fit"].first

    def _undisturbed(self, case: Case, begin: Path | None) -> None:
        self.cases[case.name] = case
        root = self.folder / case.name if begin is None else self.folder / f"{case.name}-whole"
        if begin is not None:
            self._copy(begin, root)
        began = time.monotonic()
        code, err = self._start(case, case.first, root).wait()
        case.seconds = time.monotonic() - began
        assert code == 0, err
        case.whole = case.result(root)
        assert left_over(root) == [], case.name

    @staticmethod
    def _copy(begin: Path, root: Path) -> None:
        """A root elsewhere: the database says where its artifacts and checkpoints lie."""
        import sqlite3

        shutil.copytree(begin, root)
        if not (root / "mlflow.db").exists():
            return
        with sqlite3.connect(root / "mlflow.db") as database:
            for table, column in (("runs", "artifact_uri"), ("experiments", "artifact_location"), ("tags", "value")):
                database.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (str(begin), str(root)))

    def _start(self, case: Case, arguments: list[str], root: Path) -> Forked:
        where = [] if case.to is None else [str(root / case.to)]
        where += [] if case.name == "prepare" else ["--root", str(root)]
        environment = {"EXTRAPO_CACHE": str(self.folder / "cache"), **case.environment(root)}
        return self.forks.start([*arguments, *where], environment)

    def disturb(self, name: str, end: Callable[[Forked], None], share: float, root: Path) -> None:
        """End a command after a share of its time, give it again until it is through, and compare."""
        case = self.cases[name]
        if case.begin is not None:
            self._copy(case.begin, root)
        process = self._start(case, case.first, root)
        time.sleep(share * case.seconds)
        end(process)
        code, err = process.wait()
        if end in (terminate, interrupt):
            assert code in (0, 130, -signal.SIGTERM), err
            assert "Traceback" not in err, err
            if name == "fit" and (root / "mlflow.db").exists():
                assert {run.status for run in runs(root)} <= {"FINISHED", "KILLED"}, err
        for _ in range(3):
            again, said = self._start(case, case.again(root) or case.first, root).wait()
            if again == 0:
                break
            assert "Traceback" not in said, said
        else:
            # It was killed before its configuration was recorded.
            again, said = self._start(case, case.first, root).wait()
        assert again == 0, said
        found = case.result(root)
        assert not (unlike := differences(found, case.whole)), unlike
        assert left_over(root) == [], name


def differences(found: dict[str, Any], whole: dict[str, Any]) -> str:
    """What differs, shortly."""
    unlike = list(unequal(found, whole, ""))
    return "; ".join(f"{at}: {str(one)[:300]} != {str(other)[:300]}" for at, one, other in unlike[:10])


def unequal(found: Any, whole: Any, at: str) -> Iterator[tuple[str, Any, Any]]:
    """Where two nested results differ, as deep as both go: the place, one, the other."""
    if isinstance(found, dict) and isinstance(whole, dict):
        for key in {**found, **whole}:
            yield from unequal(found.get(key), whole.get(key), f"{at}/{key}")
    elif isinstance(found, list | tuple) and isinstance(whole, list | tuple) and len(found) == len(whole):
        for index, pair in enumerate(zip(found, whole, strict=True)):
            yield from unequal(*pair, f"{at}[{index}]")
    elif json.dumps(found) != json.dumps(whole):
        yield at, found, whole


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory, text: Path) -> Iterator[Matrix]:
    torch.manual_seed(0)
    made = Matrix(tmp_path_factory.mktemp("matrix"), text)
    yield made
    made.forks.close()


def table(count: int, seed: int) -> Iterator[Any]:
    """So many commands, ends and moments; all kinds of each before any twice."""
    draw = random.Random(seed)
    names = ("fit", "evaluate", "report", "prepare", "fit", "probe", "fit", "sweep")
    for number in range(count):
        name, end, share = names[number % len(names)], ENDS[(number + number // len(names)) % len(ENDS)], draw.random()
        yield pytest.param(name, end, share, id=f"{number}-{name}-{end.__name__}-{share:.2f}")


@pytest.mark.slow
@pytest.mark.kills
@pytest.mark.timeout(1200)
def test_killed_commands_are_given_again(matrix: Matrix, tmp_path: Path) -> None:
    # In one test: what an undisturbed run comes to is computed once.
    for case in table(12, SEED + 1):
        matrix.disturb(*case.values, tmp_path / str(case.id))


@pytest.mark.chaos
@pytest.mark.parametrize(("name", "end", "share"), list(table(KILLS, SEED)))
def test_many_killed_commands_are_given_again(
    matrix: Matrix, tmp_path: Path, name: str, end: Callable[[Forked], None], share: float
) -> None:
    matrix.disturb(name, end, share, tmp_path / "runs")


@pytest.mark.chaos
@pytest.mark.parametrize("share", [random.Random(f"training {SEED} {number}").random() for number in range(20)])
def test_a_training_killed_twenty_times_is_resumed_bit_for_bit(matrix: Matrix, tmp_path: Path, share: float) -> None:
    matrix.disturb("fit", kill, share, tmp_path / "runs")
