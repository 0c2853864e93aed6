"""A probe put to a trained model, recorded in its run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import extrapo
from extrapo.cli import run as command
from extrapo.errors import UserError
from extrapo.location import Location
from extrapo.run.fit import Result
from extrapo.run.probe import next_tokens, probe
from extrapo.tracking import runs


def test_a_model_is_asked_and_the_answer_kept(finished: Result, capsys: pytest.CaptureFixture[str]) -> None:
    root = finished.config.root
    asked = ["probe", "last", "--task", "copy", "--items", "6", "--places", "3", "--lengths", "64", "128"]
    assert command([*asked, "--root", root, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["task"] == "copy"
    assert [row["length"] for row in document["results"]] == [64, 128]
    for row in document["results"]:
        assert {"accuracy", "low", "high", "n", "chance"} <= set(row)
        assert row["low"] <= row["accuracy"] <= row["high"]
        assert row["n"] == 6
    (run,) = runs(root)
    recorded = {p.step: p.value for p in run.store.client.get_metric_history(run.run_id, "probe/copy")}
    assert recorded == {row["length"]: row["accuracy"] for row in document["results"]}
    kept = {artifact.path for artifact in run.store.client.list_artifacts(run.run_id, "probes")}
    assert kept == {"probes/copy.json", "probes/probe-copy.png"}
    # A second time nothing is drawn twice.
    assert command([*asked, "--root", root]) == 0
    assert len(run.store.client.get_metric_history(run.run_id, "probe/copy")) == 2


def test_lengths_that_a_task_does_not_fit_in_are_left_out(finished: Result) -> None:
    results, picture = probe(str(finished.checkpoint), Location(Path(finished.config.root)), task="passkey", items=2)
    assert [result.length for result in results] == [128, 256, 512]
    assert picture.is_file()


def test_a_checkpoint_that_somebody_sent(finished: Result, tmp_path: Path) -> None:
    folder = tmp_path / "sent"
    folder.mkdir()
    for name in ("last.ckpt", "config.yaml", "tokenizer.json"):
        shutil.copy(finished.checkpoint.with_name(name), folder)
    results, _ = probe(str(folder / "last.ckpt"), Location(tmp_path / "runs"), task="induction", items=2, lengths=[32])
    assert results[0].n == 2
    assert not (tmp_path / "runs").exists()


def test_what_a_probe_sees_is_what_the_model_says(finished: Result) -> None:
    gpt = extrapo.load(finished.checkpoint).model
    tokens = torch.randint(0, 256, (2, 20))
    with torch.no_grad():
        torch.testing.assert_close(next_tokens(gpt)(tokens, 3), gpt(tokens)[:, -3:].log_softmax(-1))


def test_mistakes(finished: Result) -> None:
    where = Location(Path(finished.config.root))
    with pytest.raises(UserError, match="unknown probe 'paskey'; did you mean 'passkey'"):
        probe("last", where, task="paskey")
    with pytest.raises(UserError, match="needs a length of at least 42 tokens, not 8"):
        probe("last", where, task="copy", lengths=[8])
