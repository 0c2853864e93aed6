"""Biases of the distance between positions, kappa(g_i (S_i - S_j)): index (ALiBi 2108.12409) or contextual (Cable)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Self

import torch
from torch import Tensor

from extrapo.encodings.core.bias import Bias, Formula
from extrapo.encodings.core.context import Context
from extrapo.encodings.core.decoding import Ladder, Track
from extrapo.kernels.base import Columns, Kernel, UnitColumns
from extrapo.encodings.core.positions import index

Order = Literal["after_gate", "before_gate"]


@dataclass(frozen=True)
class RelativeBias(Bias):
    """What knows the positions of its queries and keys; subclasses say what they make of them.

    Args:
        heads: number of heads.
        queries: (B or 1, H or 1, T) positions S_i.
        keys: (B or 1, H or 1, S) positions S_j; its last T are the queries' own tokens.
        dtype: dtype of the tile; differences of positions are taken in the positions' own, wider one.
    """

    heads: int
    queries: Tensor
    keys: Tensor
    dtype: torch.dtype = torch.float32

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.queries.size(0), self.heads, self.queries.size(-1), self.keys.size(-1)

    def so_far(self) -> Tensor:
        """(B or 1, H or 1, S) the positions S_j of all tokens, in their wide dtype."""
        return self.keys

    def stop(self, rows: slice) -> int:
        """How many keys the last of the rows sees."""
        return self.keys.size(-1) - self.queries.size(-1) + int(rows.stop)

    def edges(self, rows: slice) -> tuple[Tensor, Tensor]:
        """S_i, (B or 1, H or 1, R, 1), and -S_j, (B or 1, H or 1, 1, keys up to the last row), in `dtype`.

        Positions are measured from the tile's first row before they are rounded, so that what is lost is relative to
        the distance and not to the length of the text.
        """
        origin = self.queries[..., rows.start : rows.start + 1].detach()
        row = (self.queries[..., rows] - origin).to(self.dtype)
        column = (self.keys[..., : self.stop(rows)] - origin).to(self.dtype)
        # Negative, for a sum: the gradient of a difference would hold a tile with the sign turned.
        return row.unsqueeze(-1), column.neg().unsqueeze(-2)

    def distance(self, rows: slice) -> Tensor:
        """S_i - S_j of a tile, (B or 1, H or 1, R, keys up to the last row), in `dtype`."""
        if self.queries.size(-1) == 1:
            return (self.queries - self.keys).to(self.dtype).unsqueeze(-2)
        if rows.stop - rows.start == 1:
            return (self.queries[..., rows] - self.keys[..., : self.stop(rows)]).to(self.dtype).unsqueeze(-2)
        row, column = self.edges(rows)
        return row + column

    def consecutive(self) -> bool:
        """Whether the keys stand one after the other, at one distance for all: index positions of a plain text."""
        return consecutive(self.keys) and torch.equal(self.queries, self.keys[..., -self.queries.size(-1) :])

    def tile(self, rows: slice) -> Tensor:
        return torch.zeros(1, 1, 1, 1, dtype=self.dtype, device=self.keys.device).expand(
            *self.shape[:2], rows.stop - rows.start, self.stop(rows)
        )


@dataclass(frozen=True)
class DistanceFormula(Formula):
    """s q.k + kappa(g_i (S_i - S_j)), by number.

    Args:
        phi: the kernel's formula, see Kernel.phi.
        gated: there is a gate g_i.
        order: the gate inside the kernel, kappa(g z), or outside, g kappa(z).
        nonnegative: clamp distances at 0.
    """

    phi: Callable[..., Tensor]
    gated: bool = False
    order: Order = "after_gate"
    nonnegative: bool = True

    def __call__(self, content: Tensor, *factors: Tensor) -> Tensor:
        row, column, *rest = factors
        return content + self.kappa(row + column, *rest)

    def kappa(self, z: Tensor, *rest: Tensor) -> Tensor:
        """The bias of distances z; `rest` is the gate, where there is one, and the kernel's parameters."""
        if self.nonnegative:
            z = z.clamp_min(0.0)
        if not self.gated:
            return self.phi(z, *rest)
        gate, *values = rest
        return self.phi(gate * z, *values) if self.order == "after_gate" else gate * self.phi(z, *values)


@dataclass(frozen=True)
class DistanceBias(RelativeBias):
    """kappa(g_i (S_i - S_j)): a kernel of the distance between positions.

    Args:
        phi: the kernel's formula, see Kernel.phi.
        values: the kernel's parameters in force.
        fold_columns: the kernel's fold, see Kernel.fold.
        gate: (B or 1, H, T) factor g_i on the distance, or None for 1.
        order: the gate inside the kernel, kappa(g z), or outside, g kappa(z).
        nonnegative: clamp distances at 0, for kernels that are not defined below it (above the diagonal, masked later).
        monotone: the kernel never rises with the distance.
        track: what decoding keeps of the positions; those of one query and its keys are then measured from nearby.
        ladder: what it keeps of the last row, where queries and keys are consecutive and there is one query.
    """

    phi: Callable[..., Tensor] = field(kw_only=True)
    values: tuple[Tensor, ...] = ()
    fold_columns: Callable[..., Columns | None] | None = None
    gate: Tensor | None = None
    order: Order = "after_gate"
    nonnegative: bool = True
    monotone: bool = False
    track: Track | None = None
    ladder: Ladder | None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        batch, heads, queries, keys = super().shape
        return max(batch, 1 if self.gate is None else self.gate.size(0)), heads, queries, keys

    def so_far(self) -> Tensor:
        return self.keys if self.track is None else self.track.keys

    def last(self) -> Tensor:
        """(B or 1, H or 1, 1) the position of the last token, in its wide dtype."""
        return self.keys[..., -1:] if self.track is None else self.track.last

    def toeplitz(self) -> bool:
        return self.gate is None and self.consecutive()

    def falls(self) -> bool:
        """Whether a key's bias never rises as it gets further away, and is no higher for any later query."""
        ordered = bool((self.keys[..., 1:] >= self.keys[..., :-1]).all())
        return self.monotone and self.gate is None and ordered

    def part(self, rows: slice, start: int) -> Self:
        """The bias of query rows a..b-1 over the keys from `start` to the last that they see."""
        keys = self.keys[..., start : self.stop(rows)]
        return replace(self, queries=self.queries[..., rows], keys=keys, track=None, ladder=None)

    def of_heads(self, heads: Sequence[int]) -> Self:
        """The bias of some of the heads, of a kernel with one number per head."""
        chosen = torch.tensor(heads, device=self.keys.device)

        def pick(x: Tensor, dim: int) -> Tensor:
            return x if x.dim() == 0 or x.size(dim) == 1 else x.index_select(dim, chosen)

        return replace(
            self,
            heads=len(heads),
            queries=pick(self.queries, 1),
            keys=pick(self.keys, 1),
            track=None,
            ladder=None,
            gate=None if self.gate is None else pick(self.gate, 1),
            values=tuple(pick(value, 0) for value in self.values),
        )

    def formula(self) -> Formula | None:
        return self.by_number() if self.plain() else None

    def by_number(self) -> DistanceFormula:
        """The formula of the bias alone, whatever the kernel's parameters look like."""
        return DistanceFormula(self.phi, self.gate is not None, self.order, self.nonnegative)

    def plain(self) -> bool:
        """Whether the kernel has one number per head, or one for all: a table or a network has no value of a pair."""
        plain = all(value.shape in ((self.heads, 1, 1), ()) for value in self.values)
        return plain and type(self).tile is DistanceBias.tile

    def factors(self, rows: slice) -> tuple[Tensor, ...]:
        values = (value.to(self.dtype).reshape(1, -1, 1, 1) for value in self.values)
        return (*self.edges(rows), *self._gate(rows), *values)

    def _gate(self, rows: slice) -> tuple[Tensor, ...]:
        """The gates of the rows, (B or 1, H, R, 1), if there are any."""
        return () if self.gate is None else (self.gate[..., rows].to(self.dtype).unsqueeze(-1),)

    def tile(self, rows: slice) -> Tensor:
        values = tuple(value.to(self.dtype) for value in self.values)
        formula = self.by_number()
        row = self.climbed(formula.kappa, formula, values)
        return formula.kappa(self.distance(rows), *self._gate(rows), *values) if row is None else row

    def row(self) -> Tensor:
        if self.track is None or self.ladder is not None:
            return super().row()
        columns = self._columns(self.queries, self.keys)
        if columns is None or columns.w.size(-1) > 1:
            return super().row()
        w = columns.w.transpose(-1, -2)
        return w if isinstance(columns, UnitColumns) else columns.u * w

    def climbed(self, formula: Callable[..., Tensor], name: Hashable, values: tuple[Tensor, ...]) -> Tensor | None:
        """A function of the one query's distances, (1, H or 1, 1, S), from the step before; None where it has none."""
        if self.ladder is None:
            return None
        return self.ladder.row(formula, name, self.keys.size(-1), values, torch.empty(0, dtype=self.dtype))

    def pair(self) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] | None:
        if not self.plain():
            return None
        shape = self.shape[0], self.heads
        high, low = halves(self.queries.expand(*shape, -1), self.dtype)
        high_keys, low_keys = halves(self.keys.expand(*shape, -1), self.dtype)
        gates = None if self.gate is None else self.gate.to(self.dtype).expand(*shape, -1)
        values = [value.to(self.dtype).flatten().expand(self.heads) for value in self.values]
        kappa = self.by_number().kappa

        def bias(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
            b = b % shape[0]
            z = (high[b, h, i] - high_keys[b, h, j]) + (low[b, h, i] - low_keys[b, h, j])
            gate = () if gates is None else (gates[b, h, i],)
            return kappa(z, *gate, *(value[h] for value in values))

        return bias

    def fold(self) -> Columns | None:
        # Positions are measured from the middle of the text: half the magnitude, one bit more in the folded column.
        middle = self.keys[..., self.keys.size(-1) // 2 :][..., :1].detach()
        return self._columns((self.queries - middle).to(self.dtype), (self.keys - middle).to(self.dtype))

    def _columns(self, queries: Tensor, keys: Tensor) -> Columns | None:
        """The kernel's fold of positions (B or 1, H or 1, T) and (B or 1, H or 1, S), measured from anywhere."""
        if self.fold_columns is None:
            return None
        gate = None if self.gate is None else self.gate.to(self.dtype)
        values = [value.to(self.dtype) for value in self.values]
        return self.fold_columns(queries, keys, gate, *values)


def halves(positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Positions in the wide dtype as two numbers of `dtype`: their differences keep what one would lose far out."""
    high = positions.to(dtype)
    return high, (positions - high).detach().to(dtype)


def index_positions(x: Tensor, past: Bias | None, context: Context | None) -> Tensor:
    """(B or 1, 1, T) index positions of the tokens of `x`: the context's, or those that follow `past`."""
    if context is not None:
        return context.index
    before = 0 if past is None else past.shape[-1]
    return index(before, before + x.size(1), x)


def with_past(queries: Tensor, past: Bias | None) -> Tensor:
    """Positions of all keys: those of the past, then the queries' own (B or 1, H or 1, T)."""
    if past is None:
        return queries
    assert isinstance(past, RelativeBias)
    return torch.cat([past.so_far(), queries], dim=-1)


def distance_bias(
    kernel: Kernel,
    queries: Tensor,
    past: Bias | None,
    *,
    x: Tensor,
    heads: int,
    gate: Tensor | None = None,
    order: Order = "after_gate",
) -> DistanceBias:
    """The bias kappa(g_i (S_i - S_j)) of new tokens at positions `queries` (B or 1, H or 1, T), after `past`."""
    dtype = wide_enough(x)
    track: Track | None = None
    ladder: Ladder | None = None
    if isinstance(past, DistanceBias) and not torch.is_grad_enabled():
        track = (past.track or Track(past.keys, dtype)).append(queries)
        if queries.size(-1) > 1:
            keys = track.keys
        else:
            ladder = next_ladder(past, track) if gate is None else None
            keys = track.near()
            queries = keys.narrow(-1, keys.size(-1) - 1, 1)
    else:
        keys = with_past(queries, past)
    return DistanceBias(
        heads=heads,
        queries=queries,
        keys=keys,
        track=track,
        ladder=ladder,
        phi=kernel.phi,
        values=kernel.values(),
        fold_columns=kernel.fold if order == "after_gate" or gate is None else None,
        gate=gate,
        order=order,
        nonnegative=kernel.needs_nonnegative,
        monotone=kernel.monotone,
        dtype=dtype,
    )


def next_ladder(past: DistanceBias, track: Track) -> Ladder | None:
    """The ladder for the one token that a track ends with, after `past`; None where none serves."""
    # On a GPU, asking where the tokens stand would wait for it.
    if track.last.numel() > 1 or not track.last.is_cpu:
        return None
    if past.track is None or past.queries.size(-1) > 1:
        return Ladder() if consecutive(track.keys) else None
    follows = past.ladder is not None and float(track.last) == float(past.track.last) + 1
    return past.ladder if follows else None


def consecutive(keys: Tensor) -> bool:
    """Whether positions (B or 1, H or 1, S) stand one after the other, at one distance for all."""
    if keys.shape[:2] != (1, 1):
        return False
    count = torch.arange(keys.size(-1), device=keys.device, dtype=keys.dtype)
    return torch.equal(keys, keys[..., :1] + count)


def wide_enough(x: Tensor) -> torch.dtype:
    """The dtype of a bias for a layer input `x`: float32, or wider where x is."""
    return x.dtype if x.dtype.itemsize >= 4 else torch.promote_types(x.dtype, torch.float32)
