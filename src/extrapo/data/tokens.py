"""The ids of a split: one array mapped from one file, or several that are read as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray


class TokenArray:
    """Arrays of ids end to end, as far as a loader and an evaluation ask for one: length, slices, single ids.

    Args:
        pieces: (N_i,) arrays of one type, in memory or mapped; none of them is read here.
    """

    def __init__(self, pieces: Sequence[NDArray[Any]]) -> None:
        self.pieces = tuple(pieces)
        #: (pieces + 1,) where each begins, and where the last one ends.
        self.borders = np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])]).astype(np.int64)
        self.dtype = self.pieces[0].dtype if self.pieces else np.dtype("<u2")

    def __len__(self) -> int:
        return int(self.borders[-1])

    @property
    def shape(self) -> tuple[int]:
        """(N,)."""
        return (len(self),)

    @overload
    def __getitem__(self, place: int) -> int: ...
    @overload
    def __getitem__(self, place: slice) -> NDArray[Any]: ...
    def __getitem__(self, place: int | slice) -> int | NDArray[Any]:
        if not isinstance(place, slice):
            at = range(len(self))[place]
            piece = int(np.searchsorted(self.borders, at, side="right")) - 1
            return int(self.pieces[piece][at - self.borders[piece]])
        start, stop, step = place.indices(len(self))
        if step != 1:
            raise IndexError("a stretch of tokens has no step")
        return self._stretch(start, max(start, stop))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        whole = self[:]
        return whole if dtype is None else whole.astype(dtype)

    def _stretch(self, start: int, stop: int) -> NDArray[Any]:
        first = int(np.searchsorted(self.borders, start, side="right")) - 1
        found = []
        for piece in range(first, len(self.pieces)):
            begin = int(self.borders[piece])
            if begin >= stop:
                break
            found.append(self.pieces[piece][max(0, start - begin) : stop - begin])
        if not found:
            return np.empty(0, self.dtype)
        return np.asarray(found[0]) if len(found) == 1 else np.concatenate(found)


class Mixture:
    """Streams of ids that are trained on together, by weight.

    Args:
        streams: (N_i,) ids of each.
        weights: of each, summing to 1.
    """

    def __init__(self, streams: Sequence[NDArray[Any] | TokenArray], weights: Sequence[float]) -> None:
        self.streams, self.weights = tuple(streams), tuple(weights)

    def __len__(self) -> int:
        return sum(map(len, self.streams))


#: What is read as one stream.
Tokens: TypeAlias = "NDArray[Any] | TokenArray"


def plain(tokens: Tokens) -> Tokens:
    """The same without the ways of a memory map, whose slices take microseconds."""
    if isinstance(tokens, TokenArray):
        return TokenArray([np.asarray(piece) for piece in tokens.pieces])
    return np.asarray(tokens)


SHORT = 256
"""Tokens of a window up to which one gather of all of them is faster than a copy of each."""


def windows(tokens: Tokens, starts: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """(B, size) int64: the stretches that begin at `starts`.

    Args:
        tokens: (N,) ids.
        starts: (B,) places, each at least `size` before the end.
        size: tokens of a stretch.
    """
    if isinstance(tokens, TokenArray):
        return _windows_of_pieces(tokens, starts, size)
    if size <= SHORT:
        together: NDArray[np.int64] = tokens[starts[:, None] + np.arange(size)].astype(np.int64)
        return together
    return _one_by_one(tokens, starts, size)


def _one_by_one(tokens: Tokens, starts: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    out = np.empty((len(starts), size), np.int64)
    for row, start in zip(out, starts.tolist(), strict=True):
        row[:] = tokens[start : start + size]
    return out


def _windows_of_pieces(tokens: TokenArray, starts: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    out = np.empty((len(starts), size), np.int64)
    piece = np.searchsorted(tokens.borders, starts, side="right") - 1
    across = starts + size > tokens.borders[piece + 1]
    out[across] = _one_by_one(tokens, starts[across], size)
    piece[across] = -1
    for which in np.unique(piece[~across]).tolist():
        inside = piece == which
        out[inside] = windows(tokens.pieces[which], starts[inside] - tokens.borders[which], size)
    return out
