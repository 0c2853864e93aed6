"""Relative: what knows the positions of its queries and keys, index (ALiBi 2108.12409) or contextual (Cable)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from extrapo.encodings.core.bias import Bias
from extrapo.encodings.core.context import Context
from extrapo.encodings.core.positions import index
from extrapo.errors import UserError


@dataclass(frozen=True)
class Relative(Bias):
    """A bias of positions; subclasses are elementwise or rowwise, and say what they make of them.

    Args:
        heads: number of heads.
        queries: (B or 1, H or 1, T) positions S_i.
        keys: (B or 1, H or 1, S) positions S_j; its last T are the queries' own tokens.
        dtype: dtype of the logits; differences of positions are taken in the positions' own, wider one.
    """

    heads: int
    queries: Tensor
    keys: Tensor
    dtype: torch.dtype = torch.float32

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.shape_of_positions()

    def shape_of_positions(self) -> tuple[int, int, int, int]:
        """(B or 1, H, T, S), as far as positions say."""
        return self.queries.size(0), self.heads, self.queries.size(-1), self.keys.size(-1)

    def so_far(self) -> Tensor:
        """(B or 1, H or 1, S) the positions S_j of all tokens, in their wide dtype."""
        return self.keys

    def stop(self, rows: slice) -> int:
        """How many keys the last of the rows sees."""
        return self.keys.size(-1) - self.queries.size(-1) + int(rows.stop)

    def edges(self, rows: slice) -> tuple[Tensor, ...]:
        """S_i, (B or 1, H or 1, R, 1), and -S_j, (B or 1, H or 1, 1, S'), in `dtype`: their sum is the distance.

        Positions are measured from the tile's first row before they are rounded, so that what is lost is relative to
        the distance and not to the length of the text.
        """
        if rows.stop - rows.start == 1:
            # What decoding does at every step, without a pass over the keys for the sign.
            column = (self.queries[..., rows] - self.keys[..., : self.stop(rows)]).to(self.dtype)
            return column.new_zeros(1, 1, 1, 1), column.unsqueeze(-2)
        origin = self.queries[..., rows.start : rows.start + 1].detach()
        row = (self.queries[..., rows] - origin).to(self.dtype)
        column = (self.keys[..., : self.stop(rows)] - origin).to(self.dtype)
        # Negative, for a sum: the gradient of a difference would hold a tile with the sign turned.
        return row.unsqueeze(-1), column.neg().unsqueeze(-2)

    def distance(self, rows: slice) -> Tensor:
        """S_i - S_j of a tile, (B or 1, H or 1, R, S'), in `dtype`."""
        row, column = Relative.edges(self, rows)
        return column if rows.stop - rows.start == 1 else row + column

    def from_the_middle(self) -> tuple[Tensor, Tensor]:
        """S_i and S_j as measured from the middle of the text: half the magnitude, one bit more in a narrow column."""
        middle = self.keys[..., self.keys.size(-1) // 2 :][..., :1].detach()
        return self.queries - middle, self.keys - middle

    def at_distances(self, distances: Tensor) -> Bias:
        """The same bias where a distance of n tokens counts as `distances` (S,) say, for biases of the distance alone.

        Raises:
            UserError: any other.
        """
        raise UserError("distances cannot be sampled here: the bias is no function of the distance alone")

    def consecutive(self) -> bool:
        """Whether the keys stand one after the other, at one distance for all: index positions of a plain text."""
        return consecutive(self.keys) and torch.equal(self.queries, self.keys[..., -self.queries.size(-1) :])


def index_positions(x: Tensor, past: Bias | None, context: Context | None) -> Tensor:
    """(B or 1, 1, T) index positions of the tokens of `x`: the context's, or those that follow `past`."""
    if context is not None:
        return context.index
    before = 0 if past is None else past.shape[-1]
    return index(before, before + x.size(1), x)


class Counted:
    """Positions of queries and keys that are known to go up by ones, the queries' the last ones; others in their place
    are not.
    """

    def __init__(self, queries: Tensor, keys: Tensor) -> None:
        self.queries, self.keys = queries, keys

    def are(self, bias: Relative) -> bool:
        """Whether they are those of a bias."""
        return bias.queries is self.queries and bias.keys is self.keys


def is_counted(context: Context | None) -> bool:
    """Whether `index_positions` are known to go up by ones, right after those of the past."""
    return context is None or context.is_counted


def with_past(queries: Tensor, past: Bias | None) -> Tensor:
    """Positions of all keys: those of the past, then the queries' own (B or 1, H or 1, T)."""
    if past is None:
        return queries
    assert isinstance(past, Relative)
    return torch.cat([past.so_far(), queries], dim=-1)


def consecutive(keys: Tensor) -> bool:
    """Whether positions (B or 1, H or 1, S) stand one after the other, at one distance for all."""
    if keys.shape[:2] != (1, 1):
        return False
    count = torch.arange(keys.size(-1), device=keys.device, dtype=keys.dtype)
    return torch.equal(keys, keys[..., :1] + count)


def wide_enough(x: Tensor) -> torch.dtype:
    """The dtype of a bias for a layer input `x`: float32, or wider where x is."""
    return x.dtype if x.dtype.itemsize >= 4 else torch.promote_types(x.dtype, torch.float32)
