"""extrapo show: a card and a picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from extrapo.cli import run


def test_show(tmp_path: Path, capsys: pytest.CaptureFixture[str], one_line: Callable[[], str]) -> None:
    assert run(["show", "rope+k-cable", "--length", "32", "--output", str(tmp_path / "both.png")]) == 0
    said = capsys.readouterr().out
    assert "2503.08067" in said
    assert (tmp_path / "both.png").read_bytes().startswith(b"\x89PNG")
    assert run(["show", "k-cabel", "--root", str(tmp_path / "none")]) == 2
    assert "did you mean 'k-cable'" in one_line()


def test_show_layers_that_differ(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], one_line: Callable[[], str]
) -> None:
    assert run(["show", "rope+window:3,nope:1", "--length", "32", "--output", str(tmp_path / "both.png")]) == 0
    said = capsys.readouterr().out
    assert "rope+window: " in said
    assert "nope: " in said
    assert (tmp_path / "both.png").stat().st_size > 1000


def test_show_takes_the_options_of_an_encoding(tmp_path: Path, one_line: Callable[[], str]) -> None:
    assert run(["show", "alibi", "--output", str(tmp_path / "one.png"), "--encoding-options.slope", "3"]) == 2
    assert "has no option 'slope'" in one_line()
    pictures = []
    for window in ("4", "8"):
        path = tmp_path / f"{window}.png"
        flags = ["--length", "16", "--output", str(path), "--encoding-options.window.window", window]
        assert run(["show", "window+alibi", *flags]) == 0
        pictures.append(path.read_bytes())
    assert pictures[0] != pictures[1]
