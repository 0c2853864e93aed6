"""A sweep in the terminal: its slots while it runs, its tables when it is over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from extrapo.terminal.tables import FittedTable

#: From so many columns on there is room for a bar.
WITH_BAR = 80


class SlotRow(Protocol):
    """What a slot is doing: how far it is, and a text for each column."""

    trial: int | None
    step: int
    steps: int

    def row(self, number: int) -> tuple[str, ...]:
        """A text for each column."""


class Progress(Protocol):
    """How far a sweep is, as it changes."""

    @property
    def slots(self) -> Sequence[SlotRow]:
        """The slots of this machine."""

    def headline(self) -> str:
        """How far, how well, how long."""


class SweepDisplay:
    """Shows the progress of a sweep: drawn in place on a terminal, a line where something ended elsewhere.

    Args:
        console: where.
        progress: what.
        columns: the names of the columns of a slot's row; "cell" is folded where there is no room.
    """

    def __init__(self, console: Console, progress: Progress, columns: Sequence[str]) -> None:
        self.console, self.progress, self.columns = console, progress, columns
        self._live = Live(get_renderable=self.draw, console=console, refresh_per_second=2, transient=True)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self._live.stop()

    def draw(self) -> Group:
        """A line on top, a row for each slot; the bar stands before the last column."""
        if self.console.width < WITH_BAR:
            rows = [
                dict(zip(self.columns, slot.row(number), strict=True))
                for number, slot in enumerate(self.progress.slots)
            ]
            return Group(Text(self.progress.headline()), FittedTable(rows))
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in (*self.columns[:-1], "", self.columns[-1]):
            table.add_column(name, no_wrap=name != "cell", overflow="fold")
        for number, slot in enumerate(self.progress.slots):
            bar = ProgressBar(total=max(1, slot.steps), completed=slot.step, width=20)
            *texts, last = slot.row(number)
            table.add_row(*texts, "" if slot.trial is None else bar, last)
        return Group(Text(self.progress.headline()), table)

    def say(self, line: str) -> None:
        """A line that stays, above what is drawn in place."""
        self.console.print(line, markup=False, soft_wrap=True, highlight=False)

    def ended(self, line: str) -> None:
        """A trial ended; without a terminal the state of the sweep goes with it."""
        self.say(line if self.console.is_terminal else f"{line}  [{self.progress.headline()}]")


def sheet(rows: Sequence[Mapping[str, str]], numbers: Sequence[str]) -> FittedTable:
    """Rows of equal keys as a table; the columns that are not in `numbers` tell the rows apart."""
    return FittedTable(rows, keys=max(1, sum(name not in numbers for name in (rows[0] if rows else ()))))
