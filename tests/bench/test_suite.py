"""The suite: its rows, what it leaves out and says so, and the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from extrapo.attention import BACKENDS
from extrapo.bench import Suite, run
from extrapo.bench.baselines import BASELINES
from extrapo.bench.suite import Row, compiles
from extrapo.cli import run as command

TINY = {"lengths": (32,), "tokens": 64, "heads": 2, "head_dim": 8, "seconds": 0.0}


def test_rows() -> None:
    said: list[str] = []
    suite = Suite(names=("nope", "cable", "k-cable"), impls=("auto", "fold"), memory=False, steps=False, **TINY)  # type: ignore[arg-type]
    rows = run(suite, said.append)
    assert said == ["k-cable: skipped, impl 'fold' cannot serve here: the bias has full rank; use 'auto'"]
    assert {row["phase"] for row in rows} == {"forward", "forward+backward"}
    assert {row["encoding"] for row in rows} == {"sdpa", *suite.names, *BASELINES}
    assert {row["impl"] for row in rows} <= {"-", *(known.name for known in BACKENDS)}
    both = {(row["asked"], row["impl"]) for row in rows if row["encoding"] == "cable"}
    assert ("fold", "fold") in both
    assert {asked for asked, _ in both} == {"auto", "fold"}, "what was taken, beside what was asked for"
    check(rows)


@pytest.mark.slow
def test_rows_of_a_training_step() -> None:
    """It warms up with all loops compiled."""
    rows = run(Suite(names=("nope", "cable"), memory=False, baselines=False, **TINY), print)  # type: ignore[arg-type]
    steps = [row for row in rows if row["phase"] == "step"]
    assert [row["encoding"] for row in steps] == ["nope", "cable"]
    check(rows)


def check(rows: list[Row]) -> None:
    """What every row owes."""
    for row in rows:
        assert {"encoding", "impl", "length", "phase", "seconds", "ratio", "peak_bytes"} <= set(row)
        assert 0 < row["least"] <= row["low"] <= row["seconds"] <= row["high"]
        assert row["ratio_low"] <= row["ratio"] <= row["ratio_high"]
        assert row["tokens_per_second"] == row["batch"] * row["length"] / row["seconds"]
        if row["encoding"] == "sdpa":
            assert row["ratio"] == 1


def test_what_is_not_registered_is_skipped_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extrapo.bench.suite.encodings.names", lambda: ["nope"])
    said: list[str] = []
    rows = run(Suite(memory=False, steps=False, baselines=False, **TINY), said.append)  # type: ignore[arg-type]
    assert {row["encoding"] for row in rows} == {"sdpa", "nope"}
    assert any(line.startswith("k-cable: skipped") for line in said)


def test_who_compiles_says_so() -> None:
    """A back end itself, whatever it is called: these are measured first, in processes that leave it on disk."""
    assert {known.name for known in BACKENDS if compiles(known.name)} >= {"flex"}
    assert not any(map(compiles, ("-", "decode", "fold", "tiles", "reference")))
    of_wing = {known.name: known.compiles for known in BACKENDS if known.name.startswith("cpu-")}
    assert of_wing in ({}, {"cpu-row": True, "cpu-fused": True, "cpu-tiles": False})


def test_decoding_is_timed_by_the_token() -> None:
    suite = Suite(names=("nope", "cable"), steps=False, baselines=False, decode=(40,), memory=False, **TINY)  # type: ignore[arg-type]
    rows = [row for row in run(suite, print) if row["phase"] == "decode"]
    assert [(row["encoding"], row["length"], row["batch"]) for row in rows] == [("nope", 40, 1), ("cable", 40, 1)]
    assert [row["impl"] for row in rows] == ["-", "decode"]
    assert rows[0]["ratio"] == 1
    for row in rows:
        assert row["tokens_per_second"] == 1 / row["seconds"]


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "bench.png"
    flags = "--encodings nope,cable --lengths 16,32 --tokens 32 --heads 2 --head-dim 8 --seconds 0 --no-memory"
    assert command(["bench", *flags.split(), "--no-steps", "--json", "--output", str(picture)]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert {row["encoding"] for row in document["rows"]} == {"sdpa", "nope", "cable", *BASELINES}
    assert {row["length"] for row in document["rows"]} == {16, 32}
    assert {"processor", "cores", "threads", "load_before", "load_after", "others"} <= set(document["machine"])
    assert "cable" in captured.err
    assert picture.stat().st_size > 1000


@pytest.mark.parametrize(
    ("flags", "complaint"), [("--impls tile", "unknown impl 'tile'"), ("--encodings kable", "cable")]
)
def test_mistakes(flags: str, complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["bench", *flags.split()]) == 2
    assert complaint in capsys.readouterr().err
