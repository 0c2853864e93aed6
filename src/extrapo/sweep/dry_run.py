"""A sweep without running it: its cells, and roughly what they will cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from extrapo.config import RunConfig
from extrapo.sweep import cost
from extrapo.sweep.slots import Slot
from extrapo.sweep.spec import Range, SweepSpec
from extrapo.sweep.text import format_cell, format_value

#: Cells that are listed one by one.
LISTED = 200


def dry_run(
    spec: SweepSpec, runs: Sequence[RunConfig], slots: Sequence[Slot], say: Callable[[str], None]
) -> dict[str, Any]:
    """Say which cells there are and what they will cost; the same as a document.

    Args:
        spec: the sweep.
        runs: its runs, or some that stand for them.
        slots: those of this machine.
        say: told line by line.
    """
    cells = spec.cells() if spec.mode == "grid" else []
    for number, cell in enumerate(cells[:LISTED]):
        say(f"{number:4}  {format_cell(cell)}")
    if len(cells) > LISTED:
        say(f"      ... and {len(cells) - LISTED:,} more")
    for key, values in spec.space.items() if spec.mode == "search" else ():
        say(f"{key}: {values if isinstance(values, Range) else ', '.join(map(format_value, values))}")
    trials = len(cells) or spec.size
    rate = cost.speed(slots[0].threads, bool(slots[0].gpus))
    estimate = cost.estimate(runs, trials, rate)
    say(estimate.line(len(slots)))
    return {
        "study": spec.name,
        "cells": cells or trials,
        "tokens": estimate.tokens,
        "operations": estimate.operations,
        "seconds": estimate.seconds / len(slots),
    }
