"""A training whose tracking store goes away goes on; its record arrives when the store is back, or later."""

from __future__ import annotations

import json
import re
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import lightning as L
import pytest
from small_runs import change, losses

from extrapo.cli import run as command
from extrapo.config import RunConfig
from extrapo.location import Location
from extrapo.run.fit import fit
from extrapo.run.reporter import Silent
from extrapo.tracking import RunStore, outbox, recorded_run, runs
from extrapo.tracking.server import serve


class Notebook(Silent):
    """Keeps the lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


class At(L.Callback):
    """Does things before optimiser steps."""

    def __init__(self, **what: Callable[[], Any]) -> None:
        self.what = what

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.what.get(f"step_{trainer.global_step}", lambda: None)()


def test_a_database_that_is_held_beyond_the_end_of_the_run(
    small: RunConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(outbox, "PATIENCE", 0.5)
    location, notebook = Location.of(small), Notebook()
    RunStore.open(location, small.experiment)
    other = sqlite3.connect(location.database, isolation_level=None, check_same_thread=False)
    small = change(small, heatmaps=2)
    result = fit(small, notebook, callbacks=[At(step_2=lambda: other.execute("BEGIN EXCLUSIVE"))])
    assert [point.length for point in result.points] == [16, 32, 64, 128, 256, 512]
    assert result.picture is not None
    assert result.picture.is_file()
    assert sum("extrapo deliver" in line for line in notebook.lines) == 1
    monkeypatch.undo()
    other.rollback()
    for thread in threading.enumerate():
        if thread.name == "outbox":
            thread.join(60)
    (run,) = runs(small.root)
    assert run.status == "RUNNING"
    assert command(["deliver", "--root", small.root, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["left"] == []
    (run,) = runs(small.root)
    assert run.status == "FINISHED"
    assert sorted(losses(run)) == [1, 2, 3, 4, 5, 6]
    assert sorted(losses(run, "val/loss")) == [2, 4, 6]
    assert [row["length"] for row in run.curve] == [16, 32, 64, 128, 256, 512]
    assert list(run.heatmaps()) == [0, 6]
    assert Path(run.tags["extrapo.checkpoint.best"]).name == "best.ckpt"


@pytest.mark.slow
def test_a_server_that_is_gone_in_the_midst_gets_all_when_it_is_back(small: RunConfig, tmp_path: Path) -> None:
    """A real one, stopped and started at the same address; and stopped for good, until the run has long ended."""
    location = Location(tmp_path / "served")
    store = RunStore.open(location, "served")
    first, back = ExitStack(), ExitStack()
    url = first.enter_context(serve(location)).url
    port = int(url.rsplit(":", 1)[1])
    config = change(small, tracking_uri=url, steps=40, val_every=10, heatmaps=3, experiment="served")

    def start() -> None:
        back.enter_context(serve(location, port))

    starting = threading.Thread(target=start)
    slowest = 0.0

    class Clock(L.Callback):
        """The longest step while the server was away."""

        began = 0.0

        def on_train_batch_start(self, trainer: L.Trainer, *rest: Any) -> None:
            nonlocal slowest
            if 6 < trainer.global_step < 30:
                slowest = max(slowest, time.monotonic() - self.began)
            self.began = time.monotonic()

    notebook = Notebook()
    try:
        fit(config, notebook, callbacks=[Clock(), At(step_5=first.close, step_30=starting.start)])
        starting.join()
    finally:
        first.close()
        back.close()
    # Ended between two calls, or within one.
    said = re.compile(r"takes nothing \((no server answers|the server broke off)\); the run goes on")
    assert any(map(said.search, notebook.lines)), notebook.lines
    (run,) = [recorded_run(store, found.run_id) for found in store.recorded("served")]
    if run.status == "RUNNING":
        # The server took longer to start than the run's end waits.
        assert outbox.deliver_left(Location(Path(config.root), location.uri), print)
        run = recorded_run(store, run.run_id)
    assert run.status == "FINISHED"
    for key, steps in (("train/loss", range(1, 41)), ("val/loss", range(10, 41, 10))):
        history = store.client.get_metric_history(run.run_id, key)
        assert [point.step for point in history] == list(steps), f"{key}: each once"
    assert list(run.heatmaps()) == [0, 20, 40]
    # A client that waits for its server does so for minutes.
    assert slowest < 60
