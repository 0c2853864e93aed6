"""Theory of a trained run: measured, resumed, recorded, drawn."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from extrapo.cli import run as command
from extrapo.errors import UserError
from extrapo.evaluation.theory import of_model
from extrapo.location import Location
from extrapo.run import theory as module
from extrapo.run.fit import Result
from extrapo.run.theory import theory
from extrapo.tracking import runs


def test_a_run_is_measured_and_recorded(finished: Result, capsys: pytest.CaptureFixture[str]) -> None:
    root = finished.config.root
    asked = ["theory", "last", "--lengths", "32", "64", "256", "--texts", "2", "--root", root, "--json"]
    assert command(asked) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["encoding"] == "k-cable"
    measured = [row for row in document["rows"] if row["source"] == "measured"]
    assert [row["length"] for row in measured] == [32, 64, 256]
    for row in document["heads"]:
        assert row["far_mass"] + row["near_mass"] == pytest.approx(1.0, abs=1e-6)
        assert row["far_mass_bound"] is None or row["far_mass_bound"] <= row["far_mass"] + 1e-9
        assert 0 <= row["entropy"] <= row["ln_z"] + 50
        assert row["max_weight"] <= row["max_weight_bound"] + 1e-9
    # Receptive fields up to 4T.
    assert [row["length"] for row in document["fields"]] == [32, 64]
    assert {row["length"] for row in document["contextual"]} == {32, 64, 256}
    assert all(0 <= row["linearity"] <= 1 and 0 <= row["by_token"] <= 1 + 1e-9 for row in document["contextual"])
    assert len(document["contextual"][0]["most_text"]) == len(document["contextual"][0]["most"])
    assert set(document["verdicts"]) == set(document["reasons"]) >= {"normalisation", "entropy", "near_mass"}
    names = {Path(path).name for path in document["pictures"]}
    assert {"far-mass.png", "far-mass.svg", "attention.pdf", "receptive-field.png"} <= names
    (run,) = runs(root)
    client = run.store.client
    points = {p.step: p.value for p in client.get_metric_history(run.run_id, "theory/entropy")}
    assert points == {row["length"]: pytest.approx(row["entropy"]) for row in measured}
    kept = {artifact.path for artifact in client.list_artifacts(run.run_id, "theory")}
    assert {"theory/rows.json", "theory/heads.json", "theory/theory.json", "theory/far-mass.png"} <= kept
    # A second time nothing is drawn twice, and the document is the same.
    assert command(asked) == 0
    assert json.loads(capsys.readouterr().out) == document
    assert len(client.get_metric_history(run.run_id, "theory/entropy")) == 3


def test_it_goes_on_where_it_stopped(finished: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "sent"
    folder.mkdir()
    for name in ("last.ckpt", "config.yaml", "tokenizer.json"):
        shutil.copy(finished.checkpoint.with_name(name), folder)
    done: list[int] = []

    def watched(model: Any, texts: Any, *rest: Any) -> Any:
        if len(done) == 1 and texts.size(1) == 65:
            raise KeyboardInterrupt
        done.append(texts.size(1) - 1)
        return of_model(model, texts, *rest)

    monkeypatch.setattr(module, "of_model", watched)
    location, asked = Location(tmp_path / "runs"), str(folder / "last.ckpt")
    with pytest.raises(KeyboardInterrupt):
        theory(asked, location, lengths=[32, 64], texts=1)
    done.append(0)
    document = theory(asked, location, lengths=[32, 64], texts=1)
    assert done == [32, 0, 64]
    assert {row["length"] for row in document["heads"]} == {32, 64}
    # Other stretches of text are measured anew.
    theory(asked, location, lengths=[32], texts=2)
    assert done == [32, 0, 64, 32]
    assert not (tmp_path / "runs").exists()


def test_a_length_that_the_text_has_not(finished: Result) -> None:
    with pytest.raises(UserError, match="lengths"):
        theory(str(finished.checkpoint), Location(Path(finished.config.root)), lengths=[10**7])


def test_neither_an_encoding_nor_a_run(finished: Result, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["theory", "alibbi", "--root", finished.config.root]) == 2
    assert "neither an encoding" in capsys.readouterr().err
    assert command(["theory"]) == 2
    assert "--all" in capsys.readouterr().err
    assert command(["theory", "alibi", "--all"]) == 2
