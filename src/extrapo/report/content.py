"""What a report is made of, whatever it is written as."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True)
class Words:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Table:
    """Rows of equal keys, as they are to be read.

    Args:
        name: of its file, and of what refers to it.
        rows: at least one.
        caption: what it shows, under which protocol, and what its spread is.
    """

    name: str
    rows: Sequence[Mapping[str, str]]
    caption: str


@dataclass(frozen=True)
class Picture:
    """A picture in one or more formats.

    Args:
        name: of its files.
        files: what lies in them, by suffix: `svg`, `png`, `pdf`; the first is the one on the page.
        caption: what it shows.
        is_line: drawn in lines, so that a dark page may turn its lightness round; a map of colours may not.
    """

    name: str
    files: Mapping[str, bytes] = field(repr=False)
    caption: str
    is_line: bool = False


@dataclass(frozen=True)
class Commands:
    """Lines for a shell, with what they make."""

    lines: Sequence[str]


Block: TypeAlias = Words | Table | Picture | Commands


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Document:
    """A whole report."""

    title: str
    sections: Sequence[Section]

    def blocks(self) -> Iterator[Block]:
        """All of them, from the first to the last."""
        for section in self.sections:
            yield from section.blocks
