"""Recorded runs beside one another, as the store has them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_runs import change

from extrapo.cli import run as command
from extrapo.config import RunConfig
from extrapo.errors import UserError
from extrapo.location import Location
from extrapo.run.compare import compare
from extrapo.run.fit import fit
from extrapo.tracking import runs


@pytest.fixture(scope="module")
def config(text: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """A run that is over at once, in a record of these tests alone."""
    return RunConfig(
        layers=1,
        heads=2,
        dim=16,
        data=f"text:{text}",
        tokenizer="byte",
        seq_len=16,
        steps=2,
        batch_size=2,
        val_tokens=64,
        eval_tokens=512,
        lengths=(8, 16, 32),
        heatmaps=0,
        accelerator="cpu",
        root=str(tmp_path_factory.mktemp("compared") / "runs"),
    )


@pytest.fixture(scope="module")
def root(config: RunConfig) -> Path:
    """Two seeds of ALiBi, one of NoPE, and one of it under another protocol."""
    for changes in (
        {"encoding": "alibi"},
        {"encoding": "alibi", "seed": 1},
        {"encoding": "nope"},
        {"encoding": "nope", "protocol": "sliding", "stride": 4, "experiment": "other", "name": "slid"},
    ):
        fit(change(config, **changes))
    return Path(config.root)


def test_seeds_are_grouped_and_pairs_compared(root: Path) -> None:
    found = compare([], Location(root), experiment="extrapo")
    assert [group.name for group in found.groups] == ["alibi", "nope"]
    assert [len(group.members) for group in found.groups] == [2, 1]
    assert found.train_length == 16
    alibi, nope = found.curves().values()
    assert [row["length"] for row in alibi] == [8, 16, 32]
    assert all(row["seeds"] == 2 and row["low"] < row["nll"] < row["high"] for row in alibi)
    assert [(row["one"], row["other"], row["length"]) for row in found.differences] == [
        ("alibi", "nope", length) for length in (8, 16, 32)
    ]
    for row, one, other in zip(found.differences, alibi, nope, strict=True):
        assert row["mean"] == pytest.approx(one["nll"] - other["nll"], abs=1e-9)


def test_groups_by_any_setting(root: Path) -> None:
    found = compare([], Location(root), experiment="extrapo", by=["encoding", "seed"])
    assert [group.name for group in found.groups] == ["alibi, seed 0", "alibi, seed 1", "nope, seed 0"]
    with pytest.raises(UserError, match="no run has a setting 'colour'"):
        compare([], Location(root), by=["colour"])


def test_what_differs_in_another_setting_is_another_line_and_a_run_counts_once(root: Path, config: RunConfig) -> None:
    first = compare([], Location(root), experiment="extrapo").groups[0].members[0].name.split()[-1]
    assert len(compare([first, first], Location(root)).groups[0].members) == 1
    for lr in (0.001, 0.002, 0.002):
        fit(change(config, lr=lr, experiment="rates"))
    found = compare([], Location(root), experiment="rates")
    assert [group.name for group in found.groups] == ["lr 0.001", "lr 0.002"]
    assert [len(group.members) for group in found.groups] == [1, 1]
    assert len(found.left_out) == 1


def test_losses_of_other_tokens_have_no_differences_and_other_targets_are_refused(
    root: Path, config: RunConfig
) -> None:
    for tokenizer in ("byte", "bpe"):
        fit(change(config, tokenizer=tokenizer, vocab_size=300, experiment="tokens"))
    with pytest.raises(UserError, match="tokenizers differ"):
        compare([], Location(root), experiment="tokens")
    found = compare([], Location(root), experiment="tokens", per_byte=True)
    assert len(found.groups) == 2
    assert not found.differences
    assert "tokenizers differ" in found.why
    for lengths in ((8, 16), (8, 32)):
        fit(change(config, experiment="targets", lengths=lengths, protocol="fixed-target", last=4))
    with pytest.raises(UserError, match="their targets differ, '13-"):
        compare([], Location(root), experiment="targets", by=["lengths"])


def test_another_protocol_is_refused(root: Path) -> None:
    plain = [run.run_id for run in runs(root, experiment="extrapo")][:1]
    with pytest.raises(UserError, match=r"not comparable: their protocols differ, 'disjoint' .* and 'sliding'"):
        compare([*plain, "slid"], Location(root))
    found = compare([*plain, "slid"], Location(root), per_byte=True)
    assert "protocols differ" in found.why
    assert [len(group.members) for group in found.groups] == [1]
    assert len(found.left_out) == 1


def test_the_command(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--root", str(root), "--experiment", "extrapo"]
    picture = tmp_path / "figure.pdf"
    assert command(["compare", *where, "--output", str(picture)]) == 0
    said = capsys.readouterr().out
    assert "mean ± standard deviation over seeds" in said
    assert "differences of the mean loss" in said
    assert picture.read_bytes().startswith(b"%PDF")
    assert command(["compare", *where, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document) == {"runs", "differences"}
    assert command(["compare", *where, "--table", "csv", "--metric", "bits_per_byte"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header == "length,alibi,nope"
    assert [row.split(",")[0] for row in rows] == ["8", "16", "32"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metric", "accuracy"], "--metric is ppl or bits_per_byte, not 'accuracy'"),
        (["--output", "figure.docx"], "--output ends in .png, .pdf, .svg, unlike 'figure.docx'"),
        (["nonsense"], "no run 'nonsense'"),
        (["--experiment", "nothing"], "there is no finished run with a curve to compare"),
    ],
)
def test_mistakes(root: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["compare", "--root", str(root), *arguments]) == 2
    assert message in capsys.readouterr().err
