"""A recorded run opened again, by every name that it answers to."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

import extrapo
from extrapo.errors import UserError
from extrapo.run.fit import Result


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
    (rows,) = run.curves.values()
    assert list(run.curves) == ["disjoint"]
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
