"""Where a command writes: for people, and for programs."""

from __future__ import annotations

import errno
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.segment import Segment

from extrapo.harmless import harmless
from extrapo.terminal.curve import Row, curve_plot, curve_protocol, curve_table, positions_table
from extrapo.terminal.tables import FittedTable

if TYPE_CHECKING:
    from extrapo.terminal.progress import Rate, TrainingProgress


#: Seconds after which something is said again of what takes its time.
ALIVE = 4.0
#: Of a pipe, which has none.
ANY_WIDTH = 10_000


#: What a stream says that takes nothing any more, beside a broken pipe: a full disk behind it, a terminal that is gone.
DEAF = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF)


class UnreadConsole(Console):
    """A console whose reader may leave, or whose file may be full: what is computed goes on, and is recorded.

    What it is given to show is shown, and not obeyed: names and texts come from anywhere.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """As rich's, of which the control codes are its own."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=harmless(segment.text))

    def __exit__(self, *raised: Any) -> None:
        """As rich's, which writes here what is printed, and its bars."""
        try:
            super().__exit__(*raised)
        except OSError as fault:
            if fault.errno not in DEAF:
                raise
            self.on_broken_pipe()

    def on_broken_pipe(self) -> None:
        """From here on nobody is told; said once, where somebody may still read."""
        stream = self.file
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if stream is not sys.stderr:
            with suppress(OSError):
                print("nobody reads the output any more; the work goes on", file=sys.stderr, flush=True)


class Output:
    """Where a command writes: with `json`, one document on stdout and everything for people on stderr.

    Args:
        json: the command was asked for JSON.
    """

    def __init__(self, json: bool = False) -> None:
        self.json = json
        self.console = UnreadConsole(stderr=json, highlight=False)

    def document(self, value: object) -> None:
        """Print the JSON document, if one was asked for; numbers that are not finite become null."""
        if self.json:
            print(json.dumps(_plain(value), indent=2, allow_nan=False, default=str), file=sys.stdout, flush=True)

    def say(self, line: str) -> None:
        """Print for people, as it is."""
        self.console.print(line, markup=False, soft_wrap=True)

    def stream(self, piece: str) -> None:
        """Print a piece of text at once, without an end of line; as it is where no terminal would obey it."""
        self.console.file.write(harmless(piece) if self.console.is_terminal else piece)
        self.console.file.flush()

    def waiting(self, line: str) -> None:
        """Say what takes its time, where somebody watches."""
        if self.console.is_terminal:
            self.say(line)

    @contextmanager
    def alive(self, what: str, every: float = ALIVE) -> Iterator[None]:
        """While the block runs, say that it still does, and for how long: nobody is to wonder whether it hangs.

        Args:
            what: is going on.
            every: so many seconds.
        """
        over, began = Event(), time.monotonic()

        def tell() -> None:
            while not over.wait(every):
                self.say(f"{what}: {time.monotonic() - began:.0f} s so far ...")

        teller = Thread(target=tell, daemon=True)
        teller.start()
        try:
            yield
        finally:
            over.set()
            teller.join()

    def curve(self, rows: Sequence[Row], train_length: int) -> None:
        """Print the curve as a table and as a plot, under its protocol."""
        self.console.print()
        self.wide().print(curve_table(rows, train_length))
        if (by_position := positions_table(rows)) is not None:
            self.wide().print()
            self.wide().print(by_position)
        for row in rows:
            if row.get("note"):
                self.say(f"length {row['length']:,}: {row['note']}")
        stated = curve_protocol(rows)
        if stated:
            self.say(stated)
        self.say(curve_plot(rows, train_length, self.console.width))

    def wide(self) -> Console:
        """Where tables go: a pipe has no width, and nothing is folded for its sake: a record is a line."""
        return self.console if self.console.is_terminal else UnreadConsole(file=self.console.file, width=ANY_WIDTH)

    def table(self, rows: Sequence[Row], keys: int = 1) -> None:
        """Print rows of equal keys as a table.

        Args:
            rows: with a value for each column; a list is told by commas.
            keys: how many columns, from the left, tell the rows apart.
        """
        texts = [{k: ", ".join(v) if isinstance(v, list) else str(v) for k, v in row.items()} for row in rows]
        self.wide().print(FittedTable(texts, keys))

    def training_progress(self, speed: Rate, steps: int) -> TrainingProgress:
        """The bar of so many optimiser steps, or the lines where nobody watches."""
        from extrapo.terminal.progress import TrainingProgress

        return TrainingProgress(self.console, speed, steps)

    @contextmanager
    def curve_progress(self) -> Iterator[Callable[[int, int, int], None]]:
        """While the block runs, show which length is being measured; on a terminal only."""
        if not self.console.is_terminal:
            yield lambda length, done, total: None
            return
        columns = (
            TextColumn("length {task.fields[length]:,}"),
            BarColumn(bar_width=None),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console, transient=True, expand=True) as bar:
            task = bar.add_task("", total=1, length=0)

            def show(length: int, done: int, total: int) -> None:
                bar.update(task, completed=done, total=total, length=length)

            yield show


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
