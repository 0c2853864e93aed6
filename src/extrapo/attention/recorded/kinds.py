"""Kinds: what a factor of a formula has numbers for."""

from __future__ import annotations

from enum import IntEnum

from torch import Tensor

from extrapo.encodings.core.logit import AddedTile, AffineLine, Logit


class Kind(IntEnum):
    """All pairs of a head, queries, keys, or distances, as the last query has them."""

    NUMBER = 0
    ROW = 1
    COLUMN = 2
    LINE = 3


def kind(factor: Tensor) -> Kind:
    """Of a factor (B or 1, H or 1, T or 1, S or 1) for whole rows and columns.

    Raises:
        ValueError: a number for each pair.
    """
    by_row, by_key = factor.size(-2) > 1, factor.size(-1) > 1
    if by_row and by_key:
        raise ValueError("a factor with a number for each pair")
    return Kind.ROW if by_row else Kind.COLUMN if by_key else Kind.NUMBER


def line_formula(line: tuple[Tensor | None, Tensor], keys: int) -> tuple[Logit, list[Tensor]]:
    """The formula of a bias's `line`, and its factors, (1, H or 1, 1, S) each: t, where there is one, and b."""
    logit: Logit = AddedTile() if line[0] is None else AffineLine()
    return logit, [x.expand(*x.shape[:-1], keys) for x in line if x is not None]
