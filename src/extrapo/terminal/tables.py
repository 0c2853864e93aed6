"""Tables that fit any terminal: nothing is cut. Columns that find no room beside the others stand below them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

#: Blanks between two columns.
GAP = 2
#: A column of words may be as narrow as this; its words go on in the next line.
NARROW = 16
#: What a column of numbers may have where there is none.
NO_NUMBER = ("", "-", "not applicable", "inf", "nan")
NUMBER = re.compile(r"[-+−]?[\d.∞]")


@dataclass(frozen=True)
class FittedTable:
    """Rows of equal keys as a table. Columns of words are folded where room is short, columns of numbers never.

    Args:
        rows: the texts of each row by column.
        keys: how many columns, from the left, tell the rows apart: they stand before every part of the table.
        bold: the numbers of the rows that stand out.
        title: a line above it.
    """

    rows: Sequence[Mapping[str, str]]
    keys: int = 1
    bold: Collection[int] = ()
    title: str | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        parts = list(self.parts(options.max_width))
        if not console.is_terminal and len(parts) == 1 and self._is_plain(parts[0]):
            # A pipe has no styles, and nothing to fold: of thousands of rows, rich would take seconds.
            yield Text("\n".join(self._lines(parts[0])), no_wrap=True, overflow="ignore")
            return
        for number, widths in enumerate(parts):
            if number:
                yield ""
            yield self._part(widths, self.title if not number else None)

    def parts(self, room: int) -> Iterator[dict[str, int]]:
        """The columns, with their widths, of each part of the table that fits a terminal of so many columns."""
        wide = {name: self._natural(name) for name in (self.rows[0] if self.rows else ())}
        low = {name: width if self.is_number(name) else min(width, NARROW) for name, width in wide.items()}
        names = list(wide)
        if total(low) > room:
            # The keys come again with every part: they leave half of the room to what they are the keys of.
            each = max(6, (room // 2 - GAP * self.keys) // max(1, self.keys))
            low |= {name: min(low[name], each) for name in names[: self.keys] if not self.is_number(name)}
        keys = names[: self.keys]
        part = list(keys)
        for name in names[self.keys :]:
            if len(part) > len(keys) and total({one: low[one] for one in [*part, name]}) > room:
                yield widened({one: low[one] for one in part}, wide, room)
                part = list(keys)
            part.append(name)
        yield widened({one: low[one] for one in part}, wide, room)

    def is_number(self, name: str) -> bool:
        """Whether a column has nothing but numbers."""
        texts = [row[name] for row in self.rows]
        return any(map(NUMBER.match, texts)) and all(NUMBER.match(text) or text in NO_NUMBER for text in texts)

    def _natural(self, name: str) -> int:
        return max(cell_len(line) for text in (name, *(row[name] for row in self.rows)) for line in text.split("\n"))

    def _is_plain(self, widths: Mapping[str, int]) -> bool:
        """Whether every cell is one line, and has all the room that it needs."""
        one_line = all("\n" not in row[name] for row in self.rows for name in widths)
        return (
            bool(widths)
            and self.title is None
            and one_line
            and all(width == self._natural(name) for name, width in widths.items())
        )

    def _lines(self, widths: Mapping[str, int]) -> Iterator[str]:
        """The header and the rows, as rich's table has them."""
        numbers = {name for name in widths if self.is_number(name)}
        for row in ({name: name for name in widths}, *self.rows):
            cells = []
            for name, width in widths.items():
                blank = " " * (width - cell_len(row[name]))
                cells.append(blank + row[name] if name in numbers else row[name] + blank)
            yield (" " * GAP).join(cells)

    def _part(self, widths: Mapping[str, int], title: str | None) -> Table:
        table = Table(box=None, pad_edge=False, header_style="bold", title=title, title_justify="left")
        for name, width in widths.items():
            justify = "right" if self.is_number(name) else "left"
            table.add_column(Text(name), justify=justify, width=width, overflow="fold")  # type: ignore[arg-type]
        for number, row in enumerate(self.rows):
            # As it is: rich takes what stands in brackets, as in extrapo[data], for a style.
            table.add_row(*(Text(row[name]) for name in widths), style="bold" if number in self.bold else None)
        return table


def total(widths: Mapping[str, int]) -> int:
    """Of columns side by side."""
    return sum(widths.values()) + GAP * max(0, len(widths) - 1)


def widened(low: Mapping[str, int], wide: Mapping[str, int], room: int) -> dict[str, int]:
    """Columns of words as wide as there is room, from left to right."""
    found, left = dict(low), room - total(low)
    for name in found:
        more = max(0, min(wide[name] - found[name], left))
        found[name], left = found[name] + more, left - more
    return found
