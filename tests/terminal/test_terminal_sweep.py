"""A sweep in the terminal: a row for each of its slots, and a line per trial where nobody watches."""

from __future__ import annotations

import io
import time

from rich.console import Console

from extrapo.sweep.progress import COLUMNS, SlotProgress, SweepProgress
from extrapo.terminal.sweep import SweepDisplay, sheet


def progress() -> SweepProgress:
    slots = [SlotProgress("gpu 0", 7, "kernel log, seed 1", 40, 200, time.monotonic() - 75), SlotProgress("gpu 1")]
    counts = {"complete": 5, "pruned": 1, "running": 2, "waiting": 4}
    return SweepProgress("kernels", slots, 12, counts, "ppl@16T 23.4 (kernel log)", 1234.0)


def drawn(console: Console, what: object) -> str:
    with console.capture() as capture:
        console.print(what)
    return capture.get()


def test_every_slot_has_a_row() -> None:
    console = Console(width=120)
    text = drawn(console, SweepDisplay(console, progress(), COLUMNS).draw())
    assert all(part in text for part in ("gpu 0", "7", "kernel log, seed 1", "40/200", "75 s", "gpu 1", "free"))


def test_without_a_terminal_a_line_tells_all() -> None:
    out = io.StringIO()
    with SweepDisplay(Console(file=out, width=80), progress(), COLUMNS) as display:
        display.ended("trial 7: ppl@16T 23.4")
    assert out.getvalue().startswith("trial 7: ppl@16T 23.4  [kernels: 6/12 done")
    assert out.getvalue().count("\n") == 1


def test_on_a_terminal_it_is_drawn_in_place_and_leaves_lines_behind() -> None:
    out = io.StringIO()
    with SweepDisplay(Console(file=out, width=100, force_terminal=True), progress(), COLUMNS) as display:
        display.ended("trial 7: ppl@16T 23.4")
    assert "gpu 0" in out.getvalue()
    assert "trial 7: ppl@16T 23.4\n" in out.getvalue().replace("\r", "")


def test_tables() -> None:
    text = drawn(Console(width=80), sheet([{"kernel": "log", "ppl": "1.5"}, {"kernel": "", "ppl": "12.5"}], ["ppl"]))
    assert [line.split() for line in text.splitlines()] == [["kernel", "ppl"], ["log", "1.5"], ["12.5"]]
