"""A document as it is read: a text in one piece, or in several where it is too long to be held, and its annotations."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

PIECE = 1_000_000
"""Characters above which a text is read and encoded in pieces."""

LONGEST_PIECE = 64 * PIECE
"""No space in so many characters: this is no text."""


@dataclass(frozen=True)
class Annotation:
    """Something to know of a stretch of a document; preparation makes token indices of its places.

    Args:
        start, end: the stretch, in characters of the document, the end not included.
        since: the character from which its distance is counted, such as where the fact was told that is asked for.
        label: what is known, as plain JSON: the answer, the kind of fact.
    """

    start: int
    end: int
    since: int | None = None
    label: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Document:
    """One text.

    Args:
        pieces: what joins to the text; several where it is long, cut by `cut_at_spaces`.
        key: what decides the split by its hash; None is the text itself.
        annotations: of a text in one piece.
    """

    pieces: Iterable[str]
    key: str | None = None
    annotations: tuple[Annotation, ...] = ()

    @classmethod
    def of(cls, text: str, key: str | None = None, annotations: tuple[Annotation, ...] = ()) -> Document:
        """A text that is in memory."""
        whole = len(text) <= PIECE or bool(annotations)
        return cls((text,) if whole else tuple(cut_at_spaces([text])), key, annotations)


def cut_at_spaces(blocks: Iterable[str], size: int = PIECE) -> Iterator[str]:
    """Pieces of about `size` characters that join to the same text, each cut before a space or a line end that
    follows a letter or a digit.

    There GPT-2's pattern begins a new word whatever comes next: byte-level BPE gives the pieces the ids of the whole.

    Raises:
        ValueError: `LONGEST_PIECE` characters without such a place.
    """
    rest, searched = "", 0
    for block in blocks:
        rest += block
        while len(rest) > size:
            cut = _last_cut(rest, size) if searched < size else None
            if cut is None:
                behind = _CUT.search(rest, max(searched, size))
                if behind is None:
                    # A line without a space is not searched again from its beginning with every block.
                    searched = len(rest)
                    break
                cut = behind.start()
            yield rest[:cut]
            rest, searched = rest[cut:], 0
        if len(rest) > LONGEST_PIECE:
            raise ValueError(f"{LONGEST_PIECE:,} characters without a space between words")
    if rest:
        yield rest


#: A space or a line end behind a letter or a digit.
_CUT = re.compile(r"(?<=[^\W_])[ \n]")


def _last_cut(text: str, size: int) -> int | None:
    """The last place to cut at in the first `size` characters."""
    at = size + 1
    while (at := max(text.rfind(" ", 1, at), text.rfind("\n", 1, at))) > 0:
        if text[at - 1].isalnum():
            return at
    return None


def digests(document: Document) -> tuple[bytes, bytes, int, bool]:
    """SHA-256 of the key and of the text in UTF-8, characters of the text, and whether it is blank."""
    text, characters, blank = sha256(), 0, True
    for piece in document.pieces:
        text.update(piece.encode())
        characters += len(piece)
        blank = blank and not piece.strip()
    content = text.digest()
    key = content if document.key is None else sha256(document.key.encode()).digest()
    return key, content, characters, blank
