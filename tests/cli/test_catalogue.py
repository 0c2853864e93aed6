"""extrapo list: what there is, for people and as JSON."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from extrapo import catalogue, encodings, kernels
from extrapo.cli import run
from extrapo.known import FAMILIES
from extrapo.location import Location
from extrapo.terminal import Output
from extrapo.terminal.output import UnreadConsole
from extrapo.tracking import Recorder, RunStore


@pytest.mark.parametrize("what", ["encodings", "kernels", "corpora"])
def test_list(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", what, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    known = {"encodings": encodings.names(), "kernels": kernels.names()}
    names = [row["name"] for row in rows]
    assert names == known.get(what, names)
    if what != "corpora":
        keys = {"name", "paper", "positions", "transform", "kernel", "impls", "parameters", "summary"}
        assert all(set(row) > keys for row in rows)
    assert run(["list", what]) == 0
    assert all(name in capsys.readouterr().out for name in names[:1])


def on_a_terminal(width: int, *arguments: str) -> list[str]:
    """The lines that a command prints on a terminal of so many columns."""
    out = io.StringIO()
    console = UnreadConsole(file=out, width=width, force_terminal=True, color_system=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Output, "__init__", lambda self, json=False: self.__dict__.update(json=json, console=console))
        assert run(["list", *arguments]) == 0
    return out.getvalue().splitlines()


@pytest.mark.parametrize("what", ["encodings", "kernels"])
def test_a_terminal_of_80_columns_holds_the_list(what: str) -> None:
    lines = on_a_terminal(80, what)
    assert max(map(len, lines)) <= 80
    names = {"encodings": encodings.names(), "kernels": kernels.names()}[what]
    first = [words[0] for line in lines if (words := line.split())]
    assert set(names) <= set(first)
    assert "summary" in lines[0]
    assert "impls" not in " ".join(lines)


def test_a_short_list_of_encodings_asks_no_back_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which takes seconds, and is not shown."""
    monkeypatch.setattr(catalogue, "impls", lambda encoding: pytest.fail("a back end was asked"))
    assert on_a_terminal(80, "encodings")


def test_encodings_stand_below_their_family() -> None:
    lines = on_a_terminal(200, "encodings", "--wide")
    heads = [line.strip() for line in lines if line.strip().endswith(":") and not line.startswith(" ")]
    assert heads == [f"{name}:" for name in FAMILIES]
    assert "impls" in " ".join(lines)
    where = {words[0]: n for n, line in enumerate(lines) if (words := line.split())}
    assert where["rotation:"] < where["rope"] < where["contextual"] < where["no"]


def test_in_a_pipe_a_record_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", "encodings"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split()[:2] == ["name", "family"]
    assert sorted(line.split()[0] for line in lines) == encodings.names()


def test_runs_are_listed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["list", "runs", "--root", str(tmp_path / "none")]) == 2
    assert "no runs in" in capsys.readouterr().err
    store = RunStore.open(Location(tmp_path))
    recorder = Recorder.start(store, "alibi-6l-s0", config={"encoding": "alibi", "seq_len": 64})
    rows = [{"length": n, "nll": 2.0, "ppl": 7.3890561, "tokens": 64, "protocol": "disjoint"} for n in (64, 1024)]
    recorder.curve(rows, train_length=64, encoding="alibi", step=1)
    recorder.finish("FINISHED")
    assert run(["list", "runs", "--root", str(tmp_path), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["run_id"], row["status"], row["train_length"]) == (recorder.run_id, "FINISHED", 64)
    assert row["curve"] == {"64": 7.3891, "1024": 7.3891}
    assert run(["list", "runs", "--root", str(tmp_path)]) == 0
    _, line = capsys.readouterr().out.splitlines()
    assert line.split()[0] == recorder.run_id[:8]
    assert line.split()[3:] == ["FINISHED", "64", "7.3891", "1,024", "7.3891", "alibi-6l-s0"]
