"""A recorded run opened again, by every name that it answers to."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from small_runs import change

import extrapo
from extrapo.config import RunConfig
from extrapo.data import Tokenizer
from extrapo.errors import UserError
from extrapo.run.fit import Result, fit


def test_a_run_answers_to_its_names_and_its_paths(finished: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    root, run_id = finished.config.root, finished.run_id
    monkeypatch.chdir(Path(root).parent)
    by_name = ["last", run_id, run_id[:6], finished.config.name]
    by_path = [finished.checkpoint, finished.checkpoint.parent, f"runs/{run_id}", f"runs/{run_id}/best.ckpt"]
    folders = [extrapo.load(name, root=root).checkpoint.resolve() for name in by_name]
    folders += [extrapo.load(path, root="nowhere").checkpoint.resolve() for path in by_path]
    assert {path.parent for path in folders} == {finished.checkpoint.parent.resolve()}
    assert [path.name for path in folders] == [*["last.ckpt"] * 7, "best.ckpt"]


def test_what_a_loaded_run_holds(finished: Result) -> None:
    run = extrapo.load("last", root=finished.config.root)
    assert isinstance(run.model, extrapo.GPT)
    assert not run.model.training
    assert run.config.resolved() == finished.config
    ids = run.tokenizer.encode("def f():")
    assert run.tokenizer.decode(ids) == "def f():"
    assert run.model(torch.tensor([ids])).shape == (1, 8, run.tokenizer.vocab_size)
    (curve,) = run.curves.values()
    assert list(run.curves) == ["disjoint"]
    rows = curve.to_dict("records")
    digest = rows[0]["corpus_sha256"]
    terms = {"corpus_sha256": digest, "tokenizer_sha256": run.tokenizer.sha256, "seed": run.config.seed}
    assert rows == [{**point.row(), **terms, "precision": finished.config.precision} for point in finished.points]


def test_the_weights_are_those_that_were_measured(finished: Result) -> None:
    run = extrapo.load(finished.checkpoint, impl="reference")
    saved = torch.load(finished.checkpoint, weights_only=True)["state_dict"]
    assert all(torch.equal(value, saved[f"gpt.{name}"]) for name, value in run.model.state_dict().items())
    assert run.model.config.impl == "reference"


def test_what_cannot_be_loaded(finished: Result, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no checkpoint at 'missing.ckpt'"):
        extrapo.load("missing.ckpt")
    with pytest.raises(UserError, match="no runs in"):
        extrapo.load("last", root=tmp_path / "none")
    with pytest.raises(UserError, match="no run 'nonsense'"):
        extrapo.load("nonsense", root=finished.config.root)
    (tmp_path / "config.yaml").write_text("layers: 1")
    with pytest.raises(UserError, match="has no checkpoint"):
        extrapo.load(tmp_path)


@pytest.mark.parametrize("padded", [1, 64])
def test_a_tokenizer_that_is_not_the_run_s_is_refused(small: RunConfig, padded: int) -> None:
    """A bit of its vocabulary is enough: all ids are there, and some mean another text."""
    config = change(small, tokenizer="bpe", vocab_size=280, pad_vocab=padded, steps=2, heatmaps=0)
    folder = fit(config).checkpoint.parent
    before = extrapo.load(folder).tokenizer.encode("a to z")
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace('"a": ', '"@": ').replace('"z": ', '"a": ').replace('"@": ', '"z": '))
    assert Tokenizer.load(path).encode("a to z") != before
    with pytest.raises(UserError, match=r"tokenizer\.json' is damaged, or another run's: 'extrapolation\.csv' beside"):
        _ = extrapo.load(folder).tokenizer
    (folder / "extrapolation.csv").write_bytes(b"\xff\xff")
    with pytest.raises(UserError, match=r"extrapolation\.csv' is damaged: 'utf-8'"):
        _ = extrapo.load(folder).tokenizer


def test_a_checkpoint_alone_is_a_model_without_a_history(finished: Result, tmp_path: Path) -> None:
    run = extrapo.load(shutil.copy(finished.checkpoint, tmp_path))
    assert run.curves == {}
    with pytest.raises(UserError, match=r"has no config\.yaml beside it"):
        _ = run.config
    with pytest.raises(UserError, match=r"has no tokenizer\.json beside it"):
        _ = run.tokenizer


@pytest.mark.parametrize(
    ("content", "message"),
    [("layers: six", "layers: must be a valid integer"), ("laiers: 3", "laiers: Extra"), ("a: [", "not valid YAML")],
)
def test_a_broken_configuration_is_the_file_s_mistake(
    finished: Result, tmp_path: Path, content: str, message: str
) -> None:
    """Not that of a setting which somebody has given."""
    checkpoint = shutil.copy(finished.checkpoint, tmp_path)
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(UserError, match=message) as refused:
        _ = extrapo.load(checkpoint).config
    assert str(tmp_path / "config.yaml") in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_can_be_asked_of_a_loaded_run(finished: Result, tmp_path: Path) -> None:
    root = shutil.copytree(finished.config.root, tmp_path / "runs")
    run = extrapo.load(finished.run_id, root=root)
    curve = run.evaluate(lengths=[16, 48], eval_tokens=480, encoding="nope")
    assert list(curve["length"]) == [16, 48]
    (name,) = [name for name in run.curves if name != "disjoint"]
    assert run.curves[name]["nll"].equals(curve["nll"])
    assert run.evaluate(lengths=[16], eval_tokens=480, protocol="sliding", record=False)["protocol"][0] == "sliding"
    assert len(run.curves) == 2
    biases = run.biases("def f(x):")
    assert [bias.shape for bias in biases] == [(2, 9, 9)]
    written = run.generate("def ", tokens=8, seed=1)
    assert written == run.generate("def ", tokens=8, seed=1)
    assert written != run.generate("def ", tokens=8, seed=2)
    with pytest.raises(ValidationError, match="length"):
        run.evaluate(length=16)


def test_several_runs_at_once(finished: Result, small: RunConfig) -> None:
    for seed in (0, 1):
        fit(change(small, seed=seed, heatmaps=0, steps=1), tags={"extrapo.sweep": "seeds"})
    of_sweep = extrapo.load(sweep="seeds", root=small.root)
    assert [run.config.seed for run in of_sweep] == [0, 1]
    both = extrapo.load([of_sweep[1].checkpoint, finished.checkpoint])
    assert [run.config.seed for run in both] == [1, 0]
    with pytest.raises(UserError, match="no finished run of a sweep 'none'"):
        extrapo.load(sweep="none", root=small.root)
    with pytest.raises(UserError, match="name a run"):
        extrapo.load()


def test_without_pandas_a_curve_is_its_rows(finished: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extrapo.run.frames.find_spec", lambda name: None)
    assert [row["length"] for row in extrapo.load(finished.checkpoint).curves["disjoint"]] == [
        point.length for point in finished.points
    ]
