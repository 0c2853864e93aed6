"""A sweep in the terminal: its slots while it runs, its tables when it is over."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text


@dataclass
class SlotView:
    """What a slot is doing.

    Args:
        device: where.
        trial: the trial's number; None while it is free.
        cell: what the trial tries.
        step, steps: how far it is.
        since: when it began.
    """

    device: str
    trial: int | None = None
    cell: str = ""
    step: int = 0
    steps: int = 0
    since: float = 0.0


@dataclass
class SweepView:
    """What a sweep has come to.

    Args:
        name: the study.
        slots: those of this machine.
        total: cells.
        counts: cells by state.
        best: the best so far, in a line.
        seconds_left: an estimate; None before the first trial has ended.
    """

    name: str
    slots: list[SlotView]
    total: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    best: str = ""
    seconds_left: float | None = None

    @property
    def done(self) -> int:
        """Cells that need no more work."""
        return sum(self.counts.get(state, 0) for state in ("complete", "pruned", "failed"))

    def headline(self) -> str:
        """How far, how well, how long."""
        parts = [f"{self.name}: {self.done}/{self.total} done"]
        parts += [f"{self.counts[state]} {state}" for state in ("pruned", "failed") if self.counts.get(state)]
        elsewhere = self.counts.get("running", 0) - sum(slot.trial is not None for slot in self.slots)
        parts += [f"{elsewhere} running elsewhere"] if elsewhere > 0 else []
        parts += [f"best {self.best}"] if self.best else []
        parts += [f"about {duration(self.seconds_left)} left"] if self.seconds_left else []
        return ", ".join(parts)

    def __rich__(self) -> Group:
        """A line on top, a row for each slot."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("slot", "device", "trial", "cell", "step", "", "time"):
            table.add_column(name, no_wrap=name != "cell", overflow="ellipsis")
        now = time.monotonic()
        for number, slot in enumerate(self.slots):
            if slot.trial is None:
                table.add_row(str(number), slot.device, "-", "free", "", "", "")
                continue
            bar = ProgressBar(total=max(1, slot.steps), completed=slot.step, width=20)
            step = f"{slot.step}/{slot.steps}" if slot.steps else "starting"
            cells = (str(number), slot.device, str(slot.trial), slot.cell, step)
            table.add_row(*cells, bar, duration(now - slot.since))
        return Group(Text(self.headline()), table)


class Watch:
    """Shows a view: drawn in place on a terminal, a line where something ended elsewhere.

    Args:
        console: where.
        view: what; whoever changes it calls `ended` when a trial ends.
    """

    def __init__(self, console: Console, view: SweepView) -> None:
        self.console, self.view = console, view
        self._live = Live(get_renderable=lambda: view, console=console, refresh_per_second=2, transient=True)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self._live.stop()

    def say(self, line: str) -> None:
        """A line that stays, above what is drawn in place."""
        self.console.print(line, markup=False, soft_wrap=True, highlight=False)

    def ended(self, line: str) -> None:
        """A trial ended; without a terminal the state of the sweep goes with it."""
        self.say(line if self.console.is_terminal else f"{line}  [{self.view.headline()}]")


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def plain(value: object) -> str:
    """A value for people: of a sampled number four figures say enough."""
    return f"{value:.4g}" if isinstance(value, float) and len(str(value)) > 8 else str(value)


def sheet(rows: Sequence[Mapping[str, object]], numbers: Sequence[str]) -> Table:
    """Rows of equal keys as a table; the columns in `numbers` are set to the right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in rows[0] if rows else ():
        table.add_column(name, justify="right" if name in numbers else "left")
    for row in rows:
        table.add_row(*("" if value is None else plain(value) for value in row.values()))
    return table
