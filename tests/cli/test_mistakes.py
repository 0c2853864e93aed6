"""Errors that name settings as Python does, said in the flags of the command."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from extrapo.cli import app, run
from extrapo.cli.following import program
from extrapo.cli.mistakes import flags, in_flags

FLAGS = {
    "top_k": ("--top-k",),
    "accelerator": ("--accelerator",),
    "tied": ("--tied", "--no-tied"),
    "root": ("--root",),
    "many": ("--yes",),
    "what": ("WHAT",),
}


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("`top_k` must be at least 1, not 0", "--top-k must be at least 1, not 0"),
        ("`accelerator='gpu'`: no device", "--accelerator gpu: no device"),
        ("`top_k=3` or `top_k=4`", "--top-k 3 or --top-k 4"),
        ("give `tied=True`, or `tied=False`", "give --tied, or --no-tied"),
        ("give `many=True` if that is meant", "give --yes if that is meant"),
        ("`what` has no flag", "`what` has no flag"),
        ("`root='my runs'` is a file", "--root 'my runs' is a file"),
        ("`root=C:/x=y` is a file", "--root C:/x=y is a file"),
        ("`kernel` is no flag here, `extrapo fit` neither", "`kernel` is no flag here, `extrapo fit` neither"),
        ("top_k without a mark, and root", "top_k without a mark, and root"),
        ("an open ` and `top_k`", "an open ` and --top-k"),
    ],
)
def test_in_flags(message: str, said: str) -> None:
    assert in_flags(message, FLAGS) == said


def test_flags_are_those_of_the_command_that_was_called() -> None:
    fit = flags(app, ["fit", "--layers", "3"])
    assert {"kernel", "tied", "nodes", "resume"} <= set(fit)
    assert fit["tied"] == ("--tied", "--no-tied")
    assert fit["nodes"] == ("--nodes", "--num-nodes")
    sweep = flags(app, ["sweep", "file.yaml"])
    assert sweep["many"] == ("--yes",)
    assert "kernel" not in sweep


@pytest.mark.parametrize(
    ("typed", "right"),
    [
        ("fti", "fit"),
        ("fti --encoding k-cable --layers 6", "fit --encoding k-cable --layers 6"),
        ("fit --encodign k-cable --layers 6", "fit --encoding k-cable --layers 6"),
        ("fit --encoding kcable --layers 6", "fit --encoding k-cable --layers 6"),
        ("fit --encoding k-cable --layer 6", "fit --encoding k-cable --layers 6"),
        ("fit --encoding=rope+kcable", "fit --encoding=rope+k-cable"),
        ("fit --encoding ROPE", "fit --encoding rope"),
        ("show K-Cable", "show k-cable"),
        ("fit encoding=rope --layers 6", "fit --encoding=rope --layers 6"),
        ("fit --layers 6 seq_len=64", "fit --layers 6 --seq-len=64"),
        ("fit --data .", "fit --data text:."),
        ("fit --data some.jsonl", "fit --data jsonl:some.jsonl"),
        ("fit --data mytext", "fit --data text:PATH"),
        ("fit rope", None),
        ("list encoding", "list encodings"),
        ("data lst --json", "data list --json"),
        ("evaluate last --protocol disjiont", "evaluate last --protocol disjoint"),
        ("fit --layer 6 --tracking-uri http://me:secret@host", "fit --layers 6 --tracking-uri 'http://me:***@host'"),
        ("fit --hlp", "fit --help"),
        ("fit --help-al", "fit --help-all"),
        ("--verison", "--version"),
        ("fit --encoding-optons.base 3", "fit --encoding-options.base 3"),
        ("show ../rope --root nosuch", "show rope --root nosuch"),
        ("fit --workers 3", None),
        ("fit --layers six", None),
        ("fit --nosuchflagatall", None),
    ],
)
def test_the_line_that_would_have_been_right(
    typed: str, right: str | None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("some.jsonl").touch()
    assert run(typed.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    if right is None:
        assert "Right would be" not in line
    else:
        assert line.endswith(f" Right would be: {shlex.join(program())} {right}")
    assert "secret" not in line
