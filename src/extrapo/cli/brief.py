"""Help that fits a screen: of a command with many flags, those that do not matter first are named alone.

`--help-all` tells what each of them is for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cyclopts.help import HelpPanel
    from rich.console import Console, ConsoleOptions

#: The flag that asks for all that there is to tell.
ALL = "--help-all"

_told: ContextVar[bool] = ContextVar("told", default=False)


@contextmanager
def telling(all_of_it: bool) -> Iterator[None]:
    """Whether help in the block tells of every flag what it is for."""
    token = _told.set(all_of_it)
    try:
        yield
    finally:
        _told.reset(token)


class Named:
    """The flags below a heading, side by side behind it.

    Args:
        lead: a line before them.
    """

    def __init__(self, lead: str = "") -> None:
        self.lead = lead

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        """Print them, as cyclopts has its formatters do."""
        if _told.get():
            from cyclopts.help import DefaultFormatter

            DefaultFormatter()(console, options, panel)
            return
        from rich.table import Table
        from rich.text import Text

        if self.lead:
            console.print(Text(f"\n {self.lead}", style="dim"))
        # A flag has several names where others know it by another one, or a second that denies it.
        flags = Text(" ").join(Text(entry.positive_names[0], style="cyan") for entry in panel.entries)
        table = Table.grid(padding=(0, 1))
        table.add_column(width=12)
        table.add_column()
        table.add_row(Text(f" {panel.title}"), flags)
        console.print(table)
