"""A probe put to a trained model, recorded in its run."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest
import torch

import extrapo
from extrapo.cli import run as command
from extrapo.config import ProbeSettings
from extrapo.errors import UserError
from extrapo.gpt import GPT
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
    where = Location(Path(finished.config.root))
    results, picture = probe(str(finished.checkpoint), where, settings=ProbeSettings(task="passkey", items=2))
    assert [result.length for result in results] == [128, 256, 512]
    assert picture.is_file()


def test_a_checkpoint_that_somebody_sent(finished: Result, tmp_path: Path) -> None:
    folder = tmp_path / "sent"
    folder.mkdir()
    for name in ("last.ckpt", "config.yaml", "tokenizer.json"):
        shutil.copy(finished.checkpoint.with_name(name), folder)
    asked = ProbeSettings(task="induction", items=2, lengths=(32,))
    results, _ = probe(str(folder / "last.ckpt"), Location(tmp_path / "runs"), settings=asked)
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
        probe("last", where, settings=ProbeSettings(task="paskey"))
    with pytest.raises(UserError, match="needs a length of at least 42 tokens, not 8"):
        probe("last", where, settings=ProbeSettings(task="copy", lengths=(8,)))


def test_recall_by_the_number_of_keys(finished: Result, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["probe", "last", "--task", "recall", "--items", "4", "--keys", "2", "3", "--lengths", "256,300"]
    assert command([*asked, "--root", finished.config.root, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["results"]
    assert [(row["length"], row["keys"]) for row in rows] == [(256, 2), (256, 3), (300, 2), (300, 3)]
    (run,) = runs(finished.config.root)
    for keys in (2, 3):
        recorded = {
            p.step: p.value for p in run.store.client.get_metric_history(run.run_id, f"probe/recall/keys-{keys}")
        }
        assert recorded == {row["length"]: row["accuracy"] for row in rows if row["keys"] == keys}


def test_recall_in_stories_by_distance(finished: Result, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["probe", "last", "--task", "story-recall", "--items", "4", "--lengths", "512", "--root"]
    assert command([*asked, finished.config.root, "--json"]) == 0
    said = capsys.readouterr()
    rows = json.loads(said.out)["results"]
    assert {row["length"] for row in rows} == {512}
    assert {row["distance"] for row in rows} <= {"129-256", "257-512"}
    assert sum(row["n"] for row in rows) == 4
    assert f"picture: {finished.checkpoint.with_name('probe-story-recall.png')}" in said.err
    (run,) = runs(finished.config.root)
    for row in rows:
        assert row["low"] <= row["accuracy"] <= row["high"]
        assert 0 < row["chance"] < 0.5
        assert 3 < row["nll"] < 7, "hardly trained: about ln 257"
        for name, value in (("", row["accuracy"]), ("/nll", row["nll"])):
            metric = f"probe/story-recall/{row['distance']}{name}"
            (point,) = run.store.client.get_metric_history(run.run_id, metric)
            assert (point.step, point.value) == (512, value)
    # T = 32: shorter contexts of bytes hold nothing that comes back.
    assert command([*asked[:4], "--lengths", "64", "--root", finished.config.root]) == 2
    assert "probe 'story-recall' has no question at a length of 64 tokens" in capsys.readouterr().err


def test_ctrl_c_keeps_what_was_found(
    finished: Result, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["probe", str(finished.checkpoint), "--task", "copy", "--items", "5", "--lengths", "64,128"]
    asked += ["--batch-tokens", "128", "--root", finished.config.root, "--json"]
    assert command(asked) == 0
    undisturbed = json.loads(capsys.readouterr().out)
    kept = finished.checkpoint.with_name("probe-copy.unfinished.json")
    assert not kept.exists()

    def passes(at: int | None = None) -> list[int]:
        """The lengths of the passes of the model, which the signal of Ctrl-C ends in one of them."""
        lengths: list[int] = []
        plain = GPT.hidden

        def hidden(self: GPT, tokens: torch.Tensor) -> torch.Tensor:
            lengths.append(tokens.size(1))
            if len(lengths) == at:
                signal.raise_signal(signal.SIGINT)
            return plain(self, tokens)

        monkeypatch.setattr(GPT, "hidden", hidden)
        return lengths

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    passes(at=5)
    assert command(asked) == 130
    signal.signal(signal.SIGINT, before)
    monkeypatch.undo()
    said = capsys.readouterr()
    assert "the same command goes on from there" in said.err
    assert not said.out
    assert kept.is_file()
    lengths = passes()
    assert command(asked) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == undisturbed
    assert "answers are known from before" in said.err
    assert lengths == [128] * 4
    assert not kept.exists()


def test_questions_of_a_file(finished: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "hellaswag.txt"
    path.write_text("A: one two\n1\nthree\nfour five\nsix\nseven\n" * 3)
    asked = ["probe", "last", "--task", "hellaswag", "--items", str(path), "--limit", "2"]
    assert command([*asked, "--root", finished.config.root, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["results"]
    assert [row["score"] for row in rows] == ["completion", "acc", "acc_norm", "acc_bytes"]
    assert {(row["n"], row["length"]) for row in rows} == {(2, len("A: one two four five") - 1)}
    (run,) = runs(finished.config.root)
    for row in rows:
        (point,) = run.store.client.get_metric_history(run.run_id, f"probe/hellaswag/{row['score']}")
        assert (point.step, point.value) == (row["length"], row["accuracy"])
    path.write_text(json.dumps({"context": "one two", "continuation": "three"}))
    assert command(["probe", "last", "--task", "lambada", "--items", str(path), "--root", finished.config.root]) == 0
    assert "perplexity" in capsys.readouterr().out
    (point,) = run.store.client.get_metric_history(run.run_id, "probe/lambada/perplexity")
    assert point.value > 1
    assert command(["probe", "last", "--task", "lambada", "--root", finished.config.root]) == 2
    assert "probe 'lambada' needs --items, the path of lambada_openai.jsonl" in capsys.readouterr().err
