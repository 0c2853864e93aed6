"""How far a sweep is, in words."""

from __future__ import annotations

import time

from extrapo.sweep.progress import COLUMNS, SlotProgress, SweepProgress


def test_the_headline_counts_cells_and_those_elsewhere() -> None:
    slots = [SlotProgress("gpu 0", 7, "kernel log"), SlotProgress("gpu 1")]
    counts = {"complete": 5, "pruned": 1, "running": 2, "waiting": 4}
    assert SweepProgress("kernels", slots, 12, counts, "ppl@16T 23.4 (kernel log)", 1234.0).headline() == (
        "kernels: 6/12 done, 1 pruned, 1 running elsewhere, best ppl@16T 23.4 (kernel log), about 21 min left"
    )


def test_a_slot_is_free_or_starts_or_runs() -> None:
    began = time.monotonic() - 600
    rows = [
        SlotProgress("cpu x1").row(0),
        SlotProgress("cpu x1", 8, "kernel linear", since=began).row(1),
        SlotProgress("cpu x1", 9, "kernel log", 40, 200, began).row(2),
    ]
    assert [row[3:] for row in rows] == [
        ("free", "", ""),
        ("kernel linear", "starting", "10 min"),
        ("kernel log", "40/200", "10 min"),
    ]
    assert {len(row) for row in rows} == {len(COLUMNS)}
