"""A trial again, by its number: the same digits, or the word that they differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sweeping import TINY

from extrapo.errors import UserError
from extrapo.location import Location
from extrapo.run.fit import fit
from extrapo.run.reporter import Silent
from extrapo.sweep.queue import CURVE, Queue
from extrapo.sweep.rerun import rerun
from extrapo.sweep.spec import SweepSpec
from extrapo.sweep.storage import open_storage
from extrapo.sweep.study import create_study
from extrapo.tracking import RunStore, recorded_run


@pytest.fixture
def queue(tmp_path: Path, text: Path) -> Queue:
    # Two cells of one curve.
    fixed = {**TINY, "data": f"text:{text}", "steps": 2, "val_every": 2}
    del fixed["log_every"]
    spec = SweepSpec(name="mine", space={"log_every": [1, 2]}, objective="ppl@1T", fixed=fixed)
    storage = open_storage(None, tmp_path)
    queue = Queue(spec, create_study(spec, storage), storage)
    queue.enqueue_missing()
    return queue


def test_equal_in_every_digit_or_not(queue: Queue, tmp_path: Path) -> None:
    location = Location(tmp_path / "runs")
    right, wrong = queue.claim(), queue.claim()
    assert right is not None
    assert wrong is not None
    _, cell = queue.suggest(right)
    first = fit(queue.spec.settings(cell).model_copy(update={"root": str(tmp_path / "first")}))
    curve: list[dict[str, Any]] = [point.row() for point in first.points]
    almost = [{**row, "nll": row["nll"] + 1e-12} for row in curve]
    queue.set_attributes(right, **{CURVE: curve})
    queue.suggest(wrong)
    queue.set_attributes(wrong, **{CURVE: almost})
    for trial in (right, wrong):
        queue.complete(trial, (1.0,))
    again, same = rerun(queue, right.number, location, Silent())
    assert same is True
    run = recorded_run(RunStore.existing(location), again.run_id)
    assert run.tags["extrapo.rerun_of"] == f"mine {right.number}"
    assert rerun(queue, wrong.number, location, Silent())[1] is False


def test_what_cannot_be_run_again_is_said(queue: Queue, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no trial 7; it has 2"):
        rerun(queue, 7, Location(tmp_path), Silent())
    with pytest.raises(UserError, match="trial 1 is waiting: it has not started"):
        rerun(queue, 1, Location(tmp_path), Silent())
