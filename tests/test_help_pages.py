"""Help is printed from where it was kept, as it would be made, as long as nothing changes that it is made of."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import pytest
from rich.console import Console

import extrapo.cli
from extrapo import help_pages, kept
from extrapo.__main__ import main

Ask: TypeAlias = Callable[..., str]


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Ask:
    """What the program prints for these words, from a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))

    def asked(*words: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["extrapo", *words])
        # In a process of its own it would have the width of now.
        monkeypatch.setattr(extrapo.cli.app, "console", Console())
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == code
        return capsys.readouterr().out

    return asked


def pages(cache: Path) -> dict[str, str]:
    return {path.name: path.read_text("utf-8") for path in (cache / "extrapo" / "help").glob("*")}


@pytest.mark.parametrize("words", [["--help"], ["export", "--help"], ["data", "prepare", "-h"]])
def test_a_page_is_made_once(ask: Ask, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = ask(*words)
    assert "Usage: extrapo" in made
    assert [page.partition("\n")[2] for page in pages(tmp_path).values()] == [made]
    assert (tmp_path / "extrapo" / "help").stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(extrapo.cli, "main", lambda: pytest.fail("it was made again"))
    assert ask(*words) == made


def test_another_width_is_another_page(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    for columns in (120, 50):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert {len(line) for line in ask("export", "--help").splitlines() if line.startswith("╭")} == {columns}


def test_changed_code_makes_another_page(ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "extrapo"
    package.mkdir()
    (package / "cli.py").write_text("before")
    monkeypatch.setattr(kept, "__file__", str(package / "kept.py"))
    before = help_pages.fingerprint(["fit", "--help"])
    assert help_pages.fingerprint(["fit", "--help"]) == before
    (package / "cli.py").write_text("after it")
    assert help_pages.fingerprint(["fit", "--help"]) != before


@pytest.mark.parametrize("words", [["fitt", "--help"], ["export", "nothing", "--layers"], ["show", "../rope", "-h"]])
def test_what_is_no_page_is_not_kept(ask: Ask, words: list[str], tmp_path: Path) -> None:
    ask(*words, code=0 if words[0] == "show" else 2)
    assert pages(tmp_path) == {}


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"another mark\nand another page"])
def test_a_damaged_page_is_made_again(ask: Ask, tmp_path: Path, damage: bytes) -> None:
    made = ask("export", "--help")
    (page,) = (tmp_path / "extrapo" / "help").glob("*")
    page.write_bytes(damage)
    assert ask("export", "--help") == made
    assert page.read_text("utf-8").endswith(made)


def test_where_nothing_can_be_kept_there_is_help(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    assert "Usage: extrapo export" in ask("export", "--help")


def test_what_a_reader_did_not_take_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "stdout", Gone())

    def interrupted() -> None:
        with help_pages.kept(["fit", "--help"]):
            with suppress(BrokenPipeError):
                print("the first line")
            sys.exit(0)

    with pytest.raises(SystemExit):
        interrupted()
    assert not os.listdir(tmp_path)
