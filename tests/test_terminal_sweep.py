"""A sweep in the terminal: what its slots do, how far it is, and a line per trial where nobody watches."""

from __future__ import annotations

import io
import time

from rich.console import Console

from extrapo.terminal.sweep import SlotView, SweepView, Watch, duration, sheet


def view() -> SweepView:
    slots = [SlotView("gpu 0", 7, "kernel log, seed 1", 40, 200, time.monotonic() - 75), SlotView("gpu 1")]
    counts = {"complete": 5, "pruned": 1, "running": 2, "waiting": 4}
    return SweepView("kernels", slots, 12, counts, "ppl@16T 23.4 (kernel log)", 1234.0)


def drawn(console: Console, what: object) -> str:
    with console.capture() as capture:
        console.print(what)
    return capture.get()


def test_the_headline_counts_cells_and_those_elsewhere() -> None:
    assert view().headline() == (
        "kernels: 6/12 done, 1 pruned, 1 running elsewhere, best ppl@16T 23.4 (kernel log), about 21 min left"
    )


def test_every_slot_has_a_row() -> None:
    text = drawn(Console(width=120), view())
    assert all(part in text for part in ("gpu 0", "7", "kernel log, seed 1", "40/200", "75 s", "gpu 1", "free"))


def test_a_trial_that_starts_has_no_steps_yet() -> None:
    one = view()
    one.slots[1] = SlotView("gpu 1", 8, "kernel linear", since=time.monotonic())
    assert "starting" in drawn(Console(width=120), one)


def test_without_a_terminal_a_line_tells_all() -> None:
    out = io.StringIO()
    with Watch(Console(file=out, width=80), view()) as watch:
        watch.ended("trial 7: ppl@16T 23.4")
    assert out.getvalue().startswith("trial 7: ppl@16T 23.4  [kernels: 6/12 done")
    assert out.getvalue().count("\n") == 1


def test_on_a_terminal_it_is_drawn_in_place_and_leaves_lines_behind() -> None:
    out = io.StringIO()
    with Watch(Console(file=out, width=100, force_terminal=True), view()) as watch:
        watch.ended("trial 7: ppl@16T 23.4")
        time.sleep(0.6)
    assert "gpu 0" in out.getvalue()
    assert "trial 7: ppl@16T 23.4\n" in out.getvalue().replace("\r", "")


def test_durations_and_tables() -> None:
    assert [duration(s) for s in (3, 600, 7200)] == ["3 s", "10 min", "2.0 h"]
    text = drawn(Console(width=80), sheet([{"kernel": "log", "ppl": "1.5"}, {"kernel": None, "ppl": "12.5"}], ["ppl"]))
    assert [line.split() for line in text.splitlines()] == [["kernel", "ppl"], ["log", "1.5"], ["12.5"]]
