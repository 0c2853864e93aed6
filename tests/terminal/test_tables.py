"""No table cuts anything, however narrow the terminal."""

from __future__ import annotations

import io
import math
import random
import re
from collections.abc import Mapping, Sequence

import pytest
from rich.console import Console

from extrapo.terminal import Output, curve_table
from extrapo.terminal.sweep import sheet
from extrapo.terminal.tables import FittedTable

NUMBERS = ("1.25e+05", "12,345,678", "-", "75.6 ± 0.82", "107.9 to 139.5", "+0.0213", "12.5%", "-3")
WORDS = ("the", "disjoint", "accumulated-rotation", "a", "sum", "perplexity", "encoding_options.alpha_mode")


def shown(table: FittedTable, width: int) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width).print(table)
    return out.getvalue().splitlines()


def table(seed: int) -> list[dict[str, str]]:
    """Some rows of words, numbers and words again."""
    draw = random.Random(seed)
    kinds = {"cell": WORDS, **{f"n{i}": NUMBERS for i in range(draw.randint(1, 9))}, "why": WORDS}
    few, many = draw.randint(1, 2), draw.randint(3, 9)
    return [
        {
            key: " ".join(draw.choices(of, k=1 if of is NUMBERS else many if key == "why" else few))
            for key, of in kinds.items()
        }
        for _ in range(draw.randint(1, 4))
    ]


@pytest.mark.parametrize("width", [40, 41, 57, 80, 120, 200])
@pytest.mark.parametrize("rows", [table(n) for n in range(8)], ids=list("01234567"))
def test_every_number_and_every_letter_is_there(rows: list[dict[str, str]], width: int) -> None:
    lines = shown(FittedTable(rows), width)
    assert max(map(len, lines)) <= width
    said = "\n".join(lines)
    assert "…" not in said
    for row in rows:
        for name, text in row.items():
            if name.startswith("n") and FittedTable(rows).is_number(name):
                assert text in said
    letters = "".join(sorted(letter for row in rows for letter in row["why"] if letter.isalpha()))
    assert all(said.count(letter) >= letters.count(letter) for letter in set(letters))


ROW = {
    "length": 4096,
    "nll": 4.79201,
    "ppl": 120.5412,
    "low": 4.66,
    "high": 4.91,
    "bits_per_byte": 1.91,
    "tokens": 32768,
}


def test_brackets_are_text() -> None:
    """Rich would take them for a style, and leave them out."""
    lines = shown(FittedTable([{"what [b]": "pip install 'extrapo[data]'", "run": "[bold]name"}]), 120)
    assert [line.split("  ")[0] for line in lines] == ["what [b]", "pip install 'extrapo[data]'"]
    assert lines[1].endswith("[bold]name")


@pytest.mark.parametrize("width", [40, 60, 80])
def test_the_curve_is_whole_on_a_narrow_terminal(width: int) -> None:
    rows = [{**ROW, "length": 2**n} for n in range(7, 18)]
    lines = shown(curve_table(rows, train_length=256), width)
    words = " ".join(lines).split()
    for text in ("131,072", "120.54", "4.7920", "105.6", "135.6", "1.000", "1.9100", "32,768"):
        assert text in words, text
    parts = sum("length" in line.split() for line in lines)
    assert (parts == 1) == (width >= 80)


def test_the_keys_stand_before_every_part() -> None:
    rows = [{"encoding": name, "layers": "6", **{f"{2**n:,}": "75.6 ± 0.8" for n in range(7, 12)}} for name in "ab"]
    table = sheet(rows, numbers=[key for key in rows[0] if key[0].isdigit()])
    parts = [list(part) for part in table.parts(40)]
    assert len(parts) > 1
    assert all(part[:2] == ["encoding", "layers"] for part in parts)
    assert [name for part in parts for name in part[2:]] == list(rows[0])[2:]


def test_without_a_terminal_a_record_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    rows: Sequence[Mapping[str, object]] = [{"name": "a", "why": "word " * 300}, {"name": "b", "why": math.pi}]
    Output().table(rows)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["name", "a", "b"]


@pytest.mark.parametrize("seed", range(20))
def test_a_pipe_has_the_lines_of_a_terminal_that_is_wide_enough(seed: int) -> None:
    """Without its colours: one row a line, every column as wide as it needs."""
    rows = [*table(seed), dict.fromkeys(table(seed)[0], "é漢")]
    out = io.StringIO()
    Console(file=out, width=10_000, force_terminal=True, color_system=None, no_color=True).print(FittedTable(rows))
    assert shown(FittedTable(rows), 10_000) == [
        re.sub(r"\x1b\[[\d;]*m", "", line) for line in out.getvalue().splitlines()
    ]
