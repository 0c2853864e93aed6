"""A sweep of seconds, and the command line in processes of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState

from extrapo.location import Location
from extrapo.sweep import process
from extrapo.sweep.queue import CELL, KEEPER, PROCESS
from extrapo.sweep.storage import Storage, open_storage
from processes import finish, start, wait_for

#: Settings of the smallest run that goes through everything.
TINY: dict[str, Any] = {
    "tokenizer": "byte",
    "layers": 1,
    "heads": 2,
    "dim": 16,
    "seq_len": 32,
    "steps": 10,
    "batch_size": 4,
    "val_every": 5,
    "val_tokens": 256,
    "eval_tokens": 512,
    "lengths": [32],
    "heatmaps": 0,
    "log_every": 1,
    "accelerator": "cpu",
}


@dataclass
class Sweep:
    """A sweep in a folder of its own, and the processes that run it."""

    folder: Path
    text: Path
    storage: str | None = None
    name: str = "tiny"
    started: list[subprocess.Popen[str]] = field(default_factory=list)
    opened: Storage | None = None

    @property
    def root(self) -> Path:
        return self.folder / "runs"

    @property
    def file(self) -> Path:
        return self.folder / "sweep.yaml"

    @property
    def url(self) -> str:
        return self.storage or f"sqlite:///{self.root}/sweeps.db"

    def write(self, space: dict[str, Any], *, objective: Any = "ppl@1T", fixed: Any = None, **more: Any) -> Path:
        settings = {**TINY, "data": f"text:{self.text}", **(fixed or {})}
        settings = {key: value for key, value in settings.items() if key not in space}
        plan = {"name": self.name, "space": space, "fixed": settings, "objective": objective, **more}
        self.file.write_text(yaml.safe_dump(plan, sort_keys=False))
        return self.file

    def start(self, *flags: str) -> subprocess.Popen[str]:
        where = ["--root", str(self.root), *(["--storage", self.storage] if self.storage else [])]
        process = start("sweep", str(self.file), *where, *flags, cwd=self.folder)
        self.started.append(process)
        return process

    def run(self, *flags: str, code: int = 0) -> tuple[str, str]:
        process = self.start(*flags)
        ended, out, err = finish(process, 380)
        assert ended == code, f"{out}\n{err}\n{self.logs()}"
        return out, err

    def logs(self) -> str:
        return "\n".join(path.read_text()[-2000:] for path in sorted(self.root.glob("sweeps/*/*.log")))

    def trials(self) -> list[FrozenTrial]:
        if not self.storage and not (self.root / "sweeps.db").exists():
            return []
        try:
            if self.opened is None:
                # Opened as a supervisor would: Optuna writes to a database that it opens, and two at once fail.
                self.opened = open_storage(self.url, self.root)
            return optuna.load_study(study_name=self.name, storage=self.opened.rdb).trials
        except Exception:
            return []  # not there yet, or away

    def running(self) -> list[FrozenTrial]:
        return [trial for trial in self.trials() if trial.state == TrialState.RUNNING and self.pid(trial) is not None]

    def pid(self, trial: FrozenTrial) -> int | None:
        """The process of a trial while it runs; None while it is still its supervisor's."""
        owner, keeper = trial.user_attrs.get(PROCESS), trial.user_attrs.get(KEEPER)
        # One that has ended may be there until the system's first process looks after it.
        return owner["pid"] if owner and owner != keeper and process.is_alive(owner) else None

    def mlflow_runs(self) -> list[Any]:
        from extrapo.tracking import RunStore

        store = RunStore.open(Location(self.root), self.name)
        return list(store.client.search_runs([store.experiment_id], "tags.`extrapo.sweep` = 'tiny'"))

    def wait_for(self, what: Callable[[], Any], process: subprocess.Popen[str] | None = None) -> Any:
        try:
            return wait_for(what, process)
        except AssertionError as cause:
            raise AssertionError(self.logs()) from cause

    def every_cell_once(self, cells: int) -> list[FrozenTrial]:
        """The trials; every cell has one that is complete, and no other that is not a failed attempt."""
        trials = self.trials()
        complete = [trial.user_attrs[CELL] for trial in trials if trial.state == TrialState.COMPLETE]
        assert sorted(complete) == list(range(cells))
        assert all(trial.state in (TrialState.COMPLETE, TrialState.FAIL) for trial in trials)
        return trials
