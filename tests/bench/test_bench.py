"""The bench: its baselines against the reference, its rounds, its rows, and the memory that it measures."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from extrapo import encodings
from extrapo.attention import reference
from extrapo.bench import Suite, run
from extrapo.bench.baselines import BASELINES
from extrapo.bench.contenders import Case, served
from extrapo.bench.memory import Children
from extrapo.bench.timing import interleave, timing
from extrapo.cli import run as command
from extrapo.encodings import DistanceBias

TINY = {"lengths": (32,), "tokens": 64, "heads": 2, "head_dim": 8, "seconds": 0.0}


@pytest.mark.parametrize("name", BASELINES)
def test_the_baselines_are_k_cable(name: str) -> None:
    torch.manual_seed(0)
    bias = encodings.create("k-cable", heads=2, head_dim=8, dim=16).bias(torch.randn(2, 33, 16))
    assert isinstance(bias, DistanceBias)
    q, k, v = torch.randn(3, 2, 2, 33, 8).unbind(0)
    expected = reference(q, k, v, bias, 1 / math.sqrt(8))
    torch.testing.assert_close(BASELINES[name](q, k, v, bias.queries, 1 / math.sqrt(8)), expected, rtol=1e-4, atol=1e-5)


def test_rounds_are_interleaved_and_the_first_does_not_count() -> None:
    order: list[str] = []

    def contender(name: str, seconds: float) -> dict[str, float]:
        order.append(name)
        return {"forward": 100.0 if len(order) <= 3 else seconds}

    found = interleave({n: lambda n=n, s=s: contender(n, s) for n, s in {"a": 1.0, "b": 3.0}.items()}, "a", seconds=0)
    assert order == ["a", *["a", "b"] * 4], "the process gets its memory in a run of the reference"
    assert found["b"]["forward"].ratio == 3
    assert found["a"]["forward"].seconds == 1


def test_what_is_warm_counts_from_the_first_round() -> None:
    order: list[int] = []

    def contender() -> dict[str, float]:
        order.append(len(order))
        return {"step": float(len(order))}

    found = interleave({"a": contender}, "a", seconds=0, least=2, warm=0)
    assert len(order) == 3, "one before all rounds"
    assert found["a"]["step"].seconds == 2.5


def test_what_is_steady_takes_part_in_two_rounds() -> None:
    order: list[str] = []

    def contender(name: str) -> dict[str, float]:
        order.append(name)
        return {"forward": 1.0}

    runs = {name: lambda name=name: contender(name) for name in ("a", "b", "c")}
    found = interleave(runs, "a", seconds=60, least=1, most=3, steady={"b"})
    assert order == ["a", "a", "c", "a", "b", "c", "a", "b", "c", "a", "c"]
    assert found["b"]["forward"].ratio == 1


def test_a_ratio_is_taken_within_a_round() -> None:
    """A round in which the whole machine was ten times slower changes no ratio."""
    found = timing([2.0, 20.0, 2.0, 2.0], [1.0, 10.0, 1.0, 1.0])
    assert found.ratio == 2
    assert (found.low, found.seconds, found.high) == (2, 2, 6.5)


def test_rows() -> None:
    said: list[str] = []
    suite = Suite(names=("nope", "cable", "k-cable"), impls=("auto", "fold"), memory=False, **TINY)  # type: ignore[arg-type]
    rows = run(suite, said.append)
    assert said == [
        "k-cable: skipped, impl 'fold' needs a bias of low rank, and this encoding's is not; use 'auto' or 'tiles'"
    ]
    assert {row["phase"] for row in rows} == {"forward", "forward+backward", "step"}
    assert {row["encoding"] for row in rows if row["phase"] == "forward"} == {"sdpa", *suite.names, *BASELINES}
    for row in rows:
        assert {"encoding", "impl", "length", "phase", "seconds", "ratio", "peak_bytes"} <= set(row)
        assert 0 < row["low"] <= row["seconds"] <= row["high"]
        assert row["tokens_per_second"] == row["batch"] * row["length"] / row["seconds"]
        if row["encoding"] == "sdpa":
            assert row["ratio"] == 1


def test_what_is_not_registered_is_skipped_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extrapo.bench.suite.encodings.names", lambda: ["nope"])
    said: list[str] = []
    rows = run(Suite(memory=False, steps=False, baselines=False, **TINY), said.append)  # type: ignore[arg-type]
    assert {row["encoding"] for row in rows} == {"sdpa", "nope"}
    assert any(line.startswith("k-cable: skipped") for line in said)


def test_decoding_is_timed_by_the_token() -> None:
    suite = Suite(names=("nope", "cable"), steps=False, baselines=False, decode=(40,), memory=False, **TINY)  # type: ignore[arg-type]
    rows = [row for row in run(suite, print) if row["phase"] == "decode"]
    assert [(row["encoding"], row["length"], row["batch"]) for row in rows] == [("nope", 40, 1), ("cable", 40, 1)]
    assert [row["impl"] for row in rows] == ["-", "row"]
    assert rows[0]["ratio"] == 1
    for row in rows:
        assert row["tokens_per_second"] == 1 / row["seconds"]


def test_memory_sees_a_square() -> None:
    """At T = 1,024 a (2, T, T) bias alone is 8 MiB, and public-cable keeps several; tiles keep none."""
    cases = [Case(name, "auto", 1024, 1, heads=2, head_dim=8) for name in ("public-cable", "k-cable")]
    square, linear = Children().peaks(cases, "attention")
    assert square is not None
    assert linear is not None
    assert square > 3 * 2 * 1024 * 1024 * 4
    assert linear < square / 2


def test_served() -> None:
    assert [served(Case(name, "auto", 8, 1)) for name in ("sdpa", "cable", "k-cable")] == ["-", "fold", "tiles"]


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "bench.png"
    flags = (
        "--encodings cable --lengths 32 --tokens 32 --heads 2 --head-dim 8 --seconds 0 --no-memory --no-steps --json"
    )
    assert command(["bench", *flags.split(), "--output", str(picture)]) == 0
    captured = capsys.readouterr()
    assert {row["encoding"] for row in json.loads(captured.out)["rows"]} == {"sdpa", "cable", *BASELINES}
    assert "cable" in captured.err
    assert picture.stat().st_size > 1000


@pytest.mark.parametrize(
    ("flags", "complaint"), [("--impls tile", "unknown impl 'tile'"), ("--encodings kable", "cable")]
)
def test_mistakes(flags: str, complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["bench", *flags.split()]) == 2
    assert complaint in capsys.readouterr().err
