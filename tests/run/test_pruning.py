"""A run that is asked after every validation, and stops when it is told to."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from small_runs import change

from extrapo.config import RunConfig
from extrapo.run.fit import fit
from extrapo.run.pruning import PruningCallback
from extrapo.tracking import runs


def test_a_run_stops_where_it_is_told_to(small: RunConfig) -> None:
    asked: list[int] = []

    def at_the_second(step: int, loss: float) -> bool:
        assert math.isfinite(loss)
        (kept,) = Path(small.root).glob("*/last.ckpt")
        # A sweep that hears of a step counts on going on from there.
        assert torch.load(kept, weights_only=True)["global_step"] == step
        asked.append(step)
        return len(asked) == 2

    pruning = PruningCallback(at_the_second)
    result = fit(change(small, heatmaps=0), callbacks=[pruning])
    assert (asked, pruning.stopped_at) == ([2, 4], 4)
    assert result.points == []
    assert runs(small.root)[0].status == "FINISHED"


def test_a_run_at_its_end_is_not_stopped(small: RunConfig) -> None:
    pruning = PruningCallback(lambda step, loss: step == 6)
    result = fit(change(small, heatmaps=0), callbacks=[pruning])
    assert pruning.stopped_at is None
    assert len(result.points) == 6
