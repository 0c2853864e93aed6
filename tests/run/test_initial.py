"""A run that starts from the weights of another: what it takes over, what it refuses, and that it resumes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import few, interrupt_at, losses

from extrapo.cli import run as extrapo
from extrapo.config import MeasurementSettings, RunConfig
from extrapo.errors import UserError
from extrapo.location import Location
from extrapo.run.compare import compare
from extrapo.run.evaluate import measure
from extrapo.run.fit import Result, fit
from extrapo.run.reporter import Silent
from extrapo.run.resume import resume
from extrapo.tracking import RecordedRun, runs
from extrapo.training import load_checkpoint

TRAINING: dict[str, Any] = {"steps": 2, "batch_size": 4, "val_tokens": 256, "heatmaps": 0, "accelerator": "cpu"}
CURVE: dict[str, Any] = {"lengths": [16, 32], "eval_tokens": 256}


@pytest.fixture(scope="module")
def parent(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A rope model of two layers, with a tokenizer that was trained on its text."""
    folder = tmp_path_factory.mktemp("parent")
    shape = {"layers": 2, "heads": 2, "dim": 16, "encoding": "rope", "encoding_options": {"base": 500.0}}
    text = {"data": few(folder), "tokenizer": "bpe", "vocab_size": 280, "seq_len": 16}
    return fit(RunConfig(**{**shape, **text, **TRAINING, **CURVE, "steps": 20}, root=str(folder / "runs")))


def child(parent: Result, **changes: Any) -> RunConfig:
    return RunConfig(**{**TRAINING, **CURVE, "init": parent.run_id, "root": parent.config.root, **changes})


def recorded(result: Result) -> RecordedRun:
    return next(run for run in runs(result.config.root) if run.run_id == result.run_id)


def weights(result: Result) -> dict[str, torch.Tensor]:
    return load_checkpoint(result.checkpoint).gpt.state_dict()


class Lines(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def test_nope_after_rope_starts_from_all_of_the_weights(parent: Result) -> None:
    """DroPE's recalibration; at a rate of almost nothing the weights are still those that it starts from."""
    reporter = Lines()
    still = fit(child(parent, encoding="nope", lr=1e-12, weight_decay=0.0), reporter)
    before, after = weights(parent), weights(still)
    assert before.keys() == after.keys()
    assert all(torch.allclose(before[name], after[name], atol=1e-9, rtol=0) for name in before)
    count = load_checkpoint(parent.checkpoint).gpt.num_parameters()
    said = reporter.lines.index(
        f"starts from {parent.config.name} {parent.run_id[:8]}, rope trained at 16: {count:,} numbers loaded"
    )
    assert reporter.lines[said + 1 : said + 3] == [
        "new, as the seed and the options make them: nothing",
        "left out of its weights: nothing",
    ]
    settings = MeasurementSettings(lengths=(16, 32), eval_tokens=256)
    (dropped,) = measure([parent.run_id], Location.of(parent.config), settings=settings, encodings=["nope"])
    assert [p.nll for p in still.points] == pytest.approx([p.nll for p in dropped.points], rel=1e-6)
    recalibrated = fit(child(parent, encoding="nope", steps=20))
    assert all(
        one.nll is not None and other.nll is not None and one.nll < other.nll
        for one, other in zip(recalibrated.points, dropped.points, strict=True)
    )


def test_shape_text_and_tokenizer_are_those_of_the_other_run(parent: Result) -> None:
    longer = fit(child(parent, encoding="yarn", seq_len=32))
    config, before = longer.config, parent.config
    for name in ("layers", "heads", "dim", "data", "tokenizer", "vocab_size", "tied"):
        assert getattr(config, name) == getattr(before, name), name
    assert (config.seq_len, config.init) == (32, parent.run_id)
    assert config.encoding_options == {"base": 500.0, "original_length": 16, "factor": 2.0}
    assert config.name is not None
    assert config.name.startswith("yarn-2l-s0-few-continued-base500-original-length16-factor2-")
    texts = [result.checkpoint.with_name("tokenizer.json").read_text() for result in (longer, parent)]
    assert texts[0] == texts[1]
    same = fit(child(parent))
    assert (same.config.encoding, same.config.encoding_options) == ("rope", {"base": 500.0})
    assert same.config.seq_len == 16


def test_what_is_new_and_what_was_left_out_is_recorded(parent: Result) -> None:
    clocked = fit(child(parent, encoding="k-cable", layers=3))
    run = recorded(clocked)
    assert run.tags["extrapo.init"] == parent.run_id
    assert run.config["init"] == parent.run_id
    listing = json.loads(clocked.checkpoint.with_name("init.json").read_text())
    assert "blocks.0.k-cable.contextual.projection.weight" in listing["new"]
    assert "blocks.2.mlp.up.weight" in listing["new"]
    assert "blocks.1.mlp.up.weight" in listing["loaded"]
    assert listing["left_out"] == []
    back = fit(child(parent, init=str(clocked.checkpoint), encoding="nope", layers=1))
    listing = json.loads(back.checkpoint.with_name("init.json").read_text())
    assert listing["init"] == str(clocked.checkpoint.resolve())
    assert listing["new"] == []
    assert "blocks.0.k-cable.contextual.projection.weight" in listing["left_out"]
    assert "blocks.2.mlp.up.weight" in listing["left_out"]


def test_it_resumes_bit_for_bit_also_where_the_other_run_is_gone(
    parent: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = shutil.copytree(parent.checkpoint.parent, tmp_path / "other")
    changes = {"init": str(other), "encoding": "nope", "steps": 12, "val_every": 4, "log_every": 1}
    config = child(parent, **changes)
    whole = fit(config)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 6)
        stopped = fit(config)
    assert stopped.interrupted_at == 7
    shutil.rmtree(other)
    resumed = resume(stopped.run_id, Location.of(config))
    assert losses(recorded(resumed)) == losses(recorded(whole))
    assert resumed.points == whole.points
    assert all(torch.equal(tensor, weights(resumed)[name]) for name, tensor in weights(whole).items())
    resumed.checkpoint.unlink()
    with pytest.raises(UserError, match="no checkpoint"):
        resume(stopped.run_id, Location.of(config))


def test_one_that_stopped_before_its_first_checkpoint_starts_from_the_other_again(parent: Result) -> None:
    whole = fit(child(parent, encoding="pi", seq_len=32))
    whole.checkpoint.unlink()
    assert resume(whole.run_id, Location.of(whole.config)).points == whole.points


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokenizer": "byte"}, "`tokenizer` byte: the run that it starts from has bpe, and its ids would stand for"),
        ({"vocab_size": 300}, "`vocab_size` 300: the run that it starts from has 280"),
        ({"heads": 4}, "`heads` 4: the run that it starts from has 2, and its weights would not fit"),
        ({"dim": 32}, "`dim` 32: the run that it starts from has 16"),
        ({"init": "nonsense"}, "no run 'nonsense'"),
        ({"init": "last", "devices": 2, "strategy": "ddp"}, "name it by its id"),
        ({"encoding": "yarn", "encoding_options": {"fctor": 2}}, "has no option 'fctor'"),
    ],
)
def test_what_does_not_go_is_told_before_anything_is_recorded(
    parent: Result, changes: dict[str, Any], message: str
) -> None:
    before = len(runs(parent.config.root))
    with pytest.raises(UserError, match=message):
        fit(child(parent, **changes))
    assert len(runs(parent.config.root)) == before


def test_a_continued_run_and_a_later_curve_are_compared_with_the_run_itself(parent: Result) -> None:
    location = Location.of(parent.config)
    settings = MeasurementSettings(lengths=(16, 32), eval_tokens=256)
    (dropped,) = measure([parent.run_id], location, settings=settings, encodings=["nope"])
    continued = fit(child(parent))
    found = compare([parent.run_id, f"{parent.run_id}@{dropped.name[:8]}", continued.run_id], location)
    assert [group.name for group in found.groups] == [
        "rope, base 500.0, steps 20, warmup 10, from scratch",
        "nope, steps 20, warmup 10, from scratch",
        "rope, base 500.0, steps 2, warmup 2, continued",
    ]
    by_pair = {(row["one"][:4], row["other"][:4], row["length"]): row["mean"] for row in found.differences}
    own, later = (group.curve()[1]["nll"] for group in found.groups[:2])
    assert by_pair["rope", "nope", 32] == pytest.approx(own - later, abs=1e-9)
    with pytest.raises(UserError, match="has 0 measured curves 'yarn'; there are: nope-disjoint"):
        compare([f"{parent.run_id}@yarn"], location)


def test_print_config_shows_what_is_taken_over(parent: Result, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["fit", "--init", parent.run_id, "--root", parent.config.root, "--print-config"]
    assert extrapo(asked) == 0
    assert "layers: 2\n" in capsys.readouterr().out
    assert extrapo(["fit", "--init", parent.run_id, "--resume", "last"]) == 2
    assert "leave --init out" in capsys.readouterr().err
