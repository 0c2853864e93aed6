"""A run resumes bit for bit from where a signal stopped it."""

from __future__ import annotations

import signal
from copy import deepcopy
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Checkpoint
from mlflow.tracking._tracking_service import utils
from small_runs import change, few, interrupt_at

from extrapo import attention
from extrapo.config import RunConfig
from extrapo.errors import UserError
from extrapo.location import Location
from extrapo.run.fit import Result, fit
from extrapo.run.job import make_job
from extrapo.run.reporter import Silent
from extrapo.run.resume import resume
from extrapo.tracking import RecordedRun, runs
from extrapo.training import load_checkpoint

#: What of a training is the same however often it was stopped.
RECORDED = ("train/loss", "train/lr", "train/grad_norm", "train/tokens", "val/loss")


def points(run: RecordedRun, key: str) -> list[tuple[int, float]]:
    """Step and value of every point that is recorded, twice where it is so twice."""
    return [(point.step, point.value) for point in run.store.client.get_metric_history(run.run_id, key)]


@pytest.mark.parametrize(
    ("number", "changes"),
    [
        (signal.SIGINT, {"log_every": 7}),
        (signal.SIGTERM, {"pack": True}),
        (signal.SIGHUP, {}),
    ],
    ids=["SIGINT", "packed", "SIGHUP"],
)
@pytest.mark.usefixtures("attended")
def test_a_signal_loses_nothing_and_the_run_resumes_bit_for_bit(
    small: RunConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int, changes: dict[str, int]
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
    for key in RECORDED:
        assert points(run, key) == points(reference, key), key
    assert resumed.points == whole.points
    one, other = (load_checkpoint(r.checkpoint).state_dict() for r in (whole, resumed))
    assert all(torch.equal(one[name], other[name]) for name in one)


class Death(BaseException):
    """What ends a run as a kill does: nothing after it is recorded or saved."""


class Dies(Checkpoint):
    """Ends the run at an optimiser step: as its validation begins, or right after all that follows a validation."""

    def __init__(self, step: int, *, validated: bool) -> None:
        self.step, self.validated = step, validated

    def _die(self, trainer: L.Trainer, validated: bool) -> None:
        if trainer.global_step == self.step and validated == self.validated:
            raise Death

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._die(trainer, validated=False)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._die(trainer, validated=True)


#: The last is the end of an epoch, whatever the text.
@pytest.mark.parametrize("step", [8, None])
@pytest.mark.parametrize("validated", [False, True])
def test_a_run_that_dies_at_a_validation_loses_no_record(
    small: RunConfig, tmp_path: Path, step: int | None, validated: bool
) -> None:
    """A step's loss, a validation and what the best checkpoint knows stand before the checkpoint that goes on."""
    config = change(small, encoding="alibi", steps=24, heatmaps=0, lengths=(32,), data=few(tmp_path))
    epoch = len(make_job(config, Silent()).loader)
    config = change(config, val_every=epoch if step is None else 4, steps=epoch + 5 if step is None else 24)
    whole = fit(change(config, root=str(tmp_path / "whole")))
    with pytest.raises(Death):
        fit(config, callbacks=[Dies(step or epoch, validated=validated)])
    resumed = resume("last", Location.of(config))
    (run,), (reference,) = runs(config.root), runs(tmp_path / "whole")
    for key in RECORDED:
        assert points(run, key) == points(reference, key), f"{key}: each once, and in order"
    assert resumed.points == whole.points
    best = [torch.load(r.checkpoint.with_name("best.ckpt"), weights_only=True) for r in (whole, resumed)]
    assert best[0]["global_step"] == best[1]["global_step"]


@pytest.mark.parametrize("step", [8, 14])
@pytest.mark.parametrize("hurried", [False, True])
def test_a_signal_where_a_validation_is_due_loses_no_record(
    small: RunConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, step: int, hurried: bool
) -> None:
    """Lightning validates before it stops, and not again when the run goes on; unless a second signal ends that too."""
    config = change(small, encoding="alibi", steps=14, val_every=4, heatmaps=0, lengths=(32,))
    whole = fit(change(config, root=str(tmp_path / "whole")))
    with monkeypatch.context() as patch:
        interrupt_at(patch, step - 1)
        if hurried:
            with pytest.raises(Death):
                fit(config, callbacks=[Dies(step, validated=False)])
        else:
            assert fit(config).interrupted_at == step
    resumed = resume("last", Location.of(config))
    (run,), (reference,) = runs(config.root), runs(tmp_path / "whole")
    for key in RECORDED:
        assert points(run, key) == points(reference, key), key
    states = [torch.load(r.checkpoint, weights_only=True)["callbacks"] for r in (whole, resumed)]
    best = [next(s["best_model_score"] for s in state.values() if "best_model_score" in s) for state in states]
    assert best[0] == best[1]


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


def test_a_text_that_changed_is_refused_and_the_run_stays_as_it_is(small: RunConfig, tmp_path: Path) -> None:
    """A letter for another: as many tokens in as many documents, which the cursor in the text cannot tell apart."""
    config = change(small, data=few(tmp_path), steps=2, heatmaps=0)
    fit(config)
    path = tmp_path / "few.txt"
    path.write_text(path.read_text().replace("37 squared", "37 sqaured"))
    with pytest.raises(UserError, match=r"was trained on another text: sha256 [0-9a-f]{12}, and that of few is"):
        resume("last", Location.of(config))
    (run,) = runs(config.root)
    assert run.status == "FINISHED"
    path.write_text(path.read_text().replace("37 sqaured", "37 squared"))
    resume("last", Location.of(config))


@pytest.mark.parametrize("lost", [False, True])
def test_the_best_of_a_root_that_was_moved_is_not_overwritten_by_a_worse_one(
    small: RunConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lost: bool, recwarn: pytest.WarningsRecorder
) -> None:
    config = change(small, steps=6, val_every=2, heatmaps=0, root=str(tmp_path / "old"))
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2)
        stopped = fit(config)
    whole = torch.load(stopped.checkpoint, weights_only=True)
    (state,) = (one for key, one in whole["callbacks"].items() if key.startswith("ModelCheckpoint{"))
    # Nothing can be better than no loss at all.
    none = torch.zeros(())
    state |= {"best_model_score": none, "kth_value": none, "best_k_models": dict.fromkeys(state["best_k_models"], none)}
    torch.save(whole, stopped.checkpoint)
    new = tmp_path / "new"
    (tmp_path / "old").rename(new)
    # MLflow remembers where the artifacts of a run lie for as long as a process lives.
    utils._artifact_repos_cache.clear()
    best = new / stopped.run_id / "best.ckpt"
    assert torch.load(best, weights_only=True)["global_step"] == 2
    if lost:
        best.unlink()
    resume("last", Location(new))
    (run,) = runs(new)
    after = {step: loss for step, loss in points(run, "val/loss") if step > 2}
    assert torch.load(best, weights_only=True)["global_step"] == (min(after, key=after.__getitem__) if lost else 2)
    assert run.checkpoint == best
    assert not (tmp_path / "old").exists()
    assert not [one for one in recwarn if "dirpath has changed" in str(one.message)]


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


#: What no weights are.
KINDS = (torch.complex64, torch.int32, torch.float8_e4m3fn)


def test_a_damaged_checkpoint_is_told_and_the_best_offered(small: RunConfig) -> None:
    """Cut short, empty, of other things, without the state of a training, of another shape."""
    config = change(small, steps=2, val_every=1, heatmaps=0)
    last = fit(config).checkpoint
    good = last.read_bytes()
    whole = torch.load(last, weights_only=True)
    weights = whole["state_dict"]
    name = next(iter(weights))
    (other_moments,) = deepcopy(whole["optimizer_states"])
    other_moments["state"][0]["exp_avg"] = torch.zeros(3)
    spoilt = {
        "is damaged": [
            *(good[: len(good) // 2], b"", b"text", [1, 2], {"state_dict": 3}),
            *({**whole, "global_step": step} for step in (-5, 3, 10**9, "x", None, True)),
            *({**whole, "optimizer_states": states} for states in (3, [], [3])),
            *({**whole, "lr_schedulers": schedules} for schedules in ([], [3])),
            *({**whole, "rng": rng} for rng in (3, {}, {"cpu": torch.zeros(3)})),
            *({**whole, "callbacks": 3}, {**whole, "loops": {}}),
            *({**whole, "state_dict": {key: value.to(kind) for key, value in weights.items()}} for kind in KINDS),
            {**whole, "state_dict": {**weights, name: weights[name].half()}},
            {**whole, "optimizer_states": [other_moments]},
        ],
        "has no state of a training": [{"state_dict": weights}],
        "is of another model": [
            {**whole, "state_dict": {**weights, name: weights[name][:-1]}},
            {**whole, "state_dict": {key: value for key, value in weights.items() if key != name}},
        ],
    }
    for reason, contents in spoilt.items():
        for content in contents:
            if isinstance(content, bytes):
                last.write_bytes(content)
            else:
                torch.save(content, last)
            with pytest.raises(UserError, match=f"{reason}.*copy .*best.ckpt.* over it"):
                resume("last", Location.of(config))
    assert [run.status for run in runs(config.root)] == ["FINISHED"]
    last.with_name("best.ckpt").replace(last)
    assert resume("last", Location.of(config)).points
