"""A run resumes bit for bit from where a signal stopped it."""

from __future__ import annotations

import signal
from pathlib import Path

import lightning as L
import pytest
import torch
from small_runs import change, few, interrupt_at, losses

from extrapo import attention
from extrapo.config import RunConfig
from extrapo.errors import UserError
from extrapo.location import Location
from extrapo.run.fit import Result, fit
from extrapo.run.reporter import Silent
from extrapo.run.resume import resume
from extrapo.tracking import runs
from extrapo.training import load_checkpoint


@pytest.mark.parametrize(
    ("number", "changes"),
    [
        (signal.SIGINT, {}),
        pytest.param(signal.SIGTERM, {}, marks=pytest.mark.slow),
        (signal.SIGTERM, {"pack": True}),
    ],
    ids=["SIGINT", "SIGTERM", "packed"],
)
def test_a_signal_loses_nothing_and_the_run_resumes_bit_for_bit(
    small: RunConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int, changes: dict[str, bool]
) -> None:
    # An epoch of 29 batches or so ends in between; accumulation and dropout have state of their own.
    config = change(small, steps=40, micro_batch=2, dropout=0.1, val_every=7, heatmaps=0, data=few(tmp_path), **changes)
    whole = fit(change(config, root=str(tmp_path / "whole")))
    with monkeypatch.context() as patch:
        interrupt_at(patch, 17, number)
        stopped = fit(config)
    assert stopped.interrupted_at == 18
    assert stopped.points == []
    (run,) = runs(config.root)
    assert run.status == "KILLED"
    resumed = resume("last", Location.of(config))
    assert resumed.interrupted_at is None
    assert resumed.run_id == stopped.run_id
    (run,) = runs(config.root)
    assert run.status == "FINISHED"
    (reference,) = runs(tmp_path / "whole")
    assert losses(run) == losses(reference)
    assert resumed.points == whole.points
    one, other = (load_checkpoint(r.checkpoint).state_dict() for r in (whole, resumed))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("gone", [False, True])
def test_another_back_end_than_before_is_said(small: RunConfig, monkeypatch: pytest.MonkeyPatch, gone: bool) -> None:
    """On another machine, or where what was measured is gone, results agree to rounding alone."""
    config = change(small, encoding="alibi", heatmaps=0, lengths=(32,))
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2, signal.SIGINT)
        stopped = fit(config)
    if gone:
        left = tuple(known for known in attention.BACKENDS if known.name != stopped.impl)
        monkeypatch.setattr(attention, "BACKENDS", left)

    class Notebook(Silent):
        """Keeps the lines."""

        def say(self, line: str) -> None:
            lines.append(line)

    lines: list[str] = []
    resumed = resume("last", Location.of(config), Notebook())
    assert (resumed.impl != stopped.impl) == gone
    assert any(f"{stopped.impl} served up to the checkpoint" in line for line in lines) == gone


def test_resuming_a_finished_run_measures_it_again(small: RunConfig) -> None:
    once = fit(small)
    resumed = resume(once.run_id[:8], Location.of(small))
    assert [p.nll for p in resumed.points] == [p.nll for p in once.points]
    (run,) = runs(small.root)
    assert len(run.store.client.get_metric_history(run.run_id, "extrapolation/ppl")) == 6


def test_nothing_to_resume(finished: Result) -> None:
    with pytest.raises(UserError, match="no run 'nonsense'"):
        resume("nonsense", Location.of(finished.config))


def test_a_run_without_a_checkpoint_starts_again(small: RunConfig) -> None:
    whole = fit(small)
    whole.checkpoint.unlink()
    resumed = resume("last", Location.of(small))
    assert resumed.run_id == whole.run_id
    assert resumed.points == whole.points


def test_lightning_is_the_version_whose_loops_this_was_checked_with() -> None:
    assert L.__version__.startswith("2.6.")
