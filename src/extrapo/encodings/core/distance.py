"""Biases of the distance between positions, kernel(g_i (S_i - S_j)): index (ALiBi 2108.12409) or contextual (Cable)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Literal, Self

import torch
from torch import Tensor

from extrapo.encodings.core.bias import Bias, Elementwise
from extrapo.encodings.core.cache import Cache
from extrapo.encodings.core.decoding import DistanceRowCache, PositionCache
from extrapo.encodings.core.logit import AddedTile, Additive, Logit
from extrapo.encodings.core.relative import Counted, Relative, consecutive, wide_enough, with_past
from extrapo.errors import UserError
from extrapo.kernels.base import Kernel
from extrapo.kernels.low_rank import LowRank

Order = Literal["after_gate", "before_gate"]


@dataclass(frozen=True)
class DistanceLogit(Additive):
    """s q.k + kernel(g_i (S_i - S_j)), of factors S_i, -S_j, the gate, where there is one, and the kernel's parameters.

    Args:
        phi: the kernel's formula, see Kernel.phi.
        gated: there is a gate g_i.
        order: the gate inside the kernel, phi(g z), or outside, g phi(z).
        nonnegative: clamp distances at 0, for kernels that are not defined below it (above the diagonal, masked later).
        split: positions come in two parts each, as S_i, S_i', -S_j, -S_j'.
    """

    phi: Callable[..., Tensor]
    gated: bool = False
    order: Order = "after_gate"
    nonnegative: bool = True
    split: bool = False

    def bias(self, *factors: Tensor) -> Tensor:
        return self.of_distance(*self.distance(*factors))

    def distance(self, *factors: Tensor) -> tuple[Tensor, ...]:
        """z = S_i - S_j, and the factors that are not positions."""
        if self.split:
            row, rest_of_row, column, rest_of_column, *rest = factors
            return (row + column) + (rest_of_row + rest_of_column), *rest
        row, column, *rest = factors
        return row + column, *rest

    def of_distance(self, z: Tensor, *rest: Tensor) -> Tensor:
        """The bias of distances z; `rest` is the gate, where there is one, and the kernel's parameters."""
        if self.nonnegative:
            # Unlike a clamp, without a gradient at 0: a distance of exactly 0 has none to give, and what a kernel that
            # is steep there would add to the query's position and take from the key's, the same one, leaves noise.
            z = z.relu()
        if not self.gated:
            return self.phi(z, *rest)
        gate, *values = rest
        return self.phi(gate * z, *values) if self.order == "after_gate" else gate * self.phi(z, *values)


@dataclass(frozen=True)
class OfPositions(Logit):
    """The same formula of S_j in the place of -S_j: nobody need turn the sign of all keys.

    Args:
        logit: of factors S_i, -S_j and others.
    """

    logit: Logit

    def __call__(self, score: Tensor, *factors: Tensor) -> Tensor:
        row, keys, *rest = factors
        return self.logit(score, row, -keys, *rest)


@dataclass(frozen=True)
class DistanceBias(Relative, Elementwise):
    """kernel(g_i (S_i - S_j)): a kernel of the distance between positions.

    Args:
        phi: the kernel's formula, see Kernel.phi.
        values: the kernel's parameters in force.
        columns: the kernel as a product of columns, see Kernel.low_rank.
        gate: (B or 1, H, T) factor g_i on the distance, or None for 1.
        order, nonnegative: see DistanceLogit.
        monotone: the kernel never rises with the distance.
        split: factors come in two parts, which together keep the digits of all rows of a text at once.
        positions: what decoding keeps of the positions; those of one query and its keys are then measured from nearby.
        rows: what it keeps of the last row, where queries and keys are consecutive and there is one query.
        counted: the positions, where they are known to be consecutive without a look at their numbers.
    """

    phi: Callable[..., Tensor] = field(kw_only=True)
    values: tuple[Tensor, ...] = ()
    columns: Callable[..., LowRank | None] | None = None
    gate: Tensor | None = None
    order: Order = "after_gate"
    nonnegative: bool = True
    monotone: bool = False
    split: bool = False
    positions: PositionCache | None = None
    rows: DistanceRowCache | None = None
    counted: Counted | None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        batch, heads, queries, keys = self.shape_of_positions()
        return max(batch, 1 if self.gate is None else self.gate.size(0)), heads, queries, keys

    def so_far(self) -> Tensor:
        return self.keys if self.positions is None else self.positions.keys

    def last(self) -> Tensor:
        """(B or 1, H or 1, 1) the position of the last token, in its wide dtype."""
        return self.keys[..., -1:] if self.positions is None else self.positions.last

    # -- the formula ---------------------------------------------------------------------------------------------

    @property
    def logit(self) -> Logit:
        return self.of_pairs() if self.pointwise() else AddedTile()

    def of_pairs(self) -> DistanceLogit:
        """The formula, whatever the kernel's parameters look like."""
        return DistanceLogit(self.phi, self.gate is not None, self.order, self.nonnegative, self.split)

    def factors(self, rows: slice) -> tuple[Tensor, ...]:
        gate = self.gates(rows)
        if not self.pointwise():
            values = (value.to(self.dtype) for value in self.values)
            return (self.of_pairs().of_distance(self.distance(rows), *gate, *values),)
        return (*self.edges(rows), *gate, *self.numbers())

    def gates(self, rows: slice) -> tuple[Tensor, ...]:
        """The gate as a factor, (B or 1, H, R, 1), where there is one."""
        return () if self.gate is None else (self.gate[..., rows].to(self.dtype).unsqueeze(-1),)

    def numbers(self) -> tuple[Tensor, ...]:
        """What the formula reads besides positions and gates, a number per head or one for all: (1, H or 1, 1, 1)."""
        return tuple(value.to(self.dtype).reshape(1, -1, 1, 1) for value in self.values)

    def edges(self, rows: slice) -> tuple[Tensor, ...]:
        if not self.split:
            return super().edges(rows)
        row, rest_of_row = halves(self.queries[..., rows].unsqueeze(-1), self.dtype)
        column, rest_of_column = halves(self.keys[..., : self.stop(rows)].neg().unsqueeze(-2), self.dtype)
        return row, rest_of_row, column, rest_of_column

    def pointwise(self) -> bool:
        # A table or a network has no number per head: its values are made tile by tile.
        return all(value.shape in ((self.heads, 1, 1), ()) for value in self.values)

    def whole_text(self) -> Self:
        return replace(self, split=self.pointwise())

    def wide_formula(self) -> tuple[Logit, tuple[Tensor, ...]] | None:
        if not self.pointwise():
            return None
        others = *self.gates(slice(0, self.queries.size(-1))), *self.numbers()
        return replace(self.of_pairs(), split=False), (self.queries, self.keys, *others)

    # -- what else is known of it --------------------------------------------------------------------------------

    def toeplitz(self) -> bool:
        return self.gate is None and self.consecutive()

    def known_toeplitz(self) -> bool:
        return self.gate is None and self.is_counted and not self.keys.requires_grad

    @property
    def is_counted(self) -> bool:
        """Whether queries and keys are known to be consecutive."""
        return self.counted is not None and self.counted.are(self)

    def consecutive(self) -> bool:
        return self.is_counted or super().consecutive()

    def cached_line(self) -> tuple[Tensor | None, Tensor] | None:
        return self.cached_line_of(self.of_pairs())

    def row_formula(self) -> tuple[Logit, tuple[Tensor, ...]]:
        if self.positions is None or self.split or not self.pointwise() or self.queries.size(-1) > 1:
            return super().row_formula()
        gate = () if self.gate is None else (self.gate.to(self.dtype).unsqueeze(-1),)
        # Measured from nearby already.
        return OfPositions(self.logit), (self.queries.unsqueeze(-1), self.keys.unsqueeze(-2), *gate, *self.numbers())

    def cached_line_of(self, logit: Logit, *numbers: Tensor) -> tuple[Tensor | None, Tensor] | None:
        """The same of another formula, whose factors are S_i, -S_j, the numbers, and the kernel's parameters."""
        if self.rows is None:
            return None
        # Not of `factors`: these would measure every distance anew.
        values = self.numbers() if self.pointwise() else tuple(value.to(self.dtype) for value in self.values)
        return self.rows.line(logit, self.keys.size(-1), (*numbers, *values), torch.empty(0, dtype=self.dtype))

    def low_rank(self) -> LowRank | None:
        if self.columns is None:
            return None
        queries, keys = self.queries, self.keys
        if queries.size(-1) > 1:
            queries, keys = self.from_the_middle()
        elif self.positions is None:
            # One query: from its own place, as where decoding keeps positions measured from nearby.
            queries, keys = queries - keys[..., -1:], keys - keys[..., -1:]
        # In their wide dtype: how a column is rounded is up to what it is folded into.
        gate = None if self.gate is None else self.gate.to(self.dtype)
        return self.columns(queries, keys, gate, *(value.to(self.dtype) for value in self.values))

    def falls(self) -> bool:
        """Whether a key's bias never rises as it gets further away, and is no higher for any later query."""
        ordered = bool((self.keys[..., 1:] >= self.keys[..., :-1]).all())
        return self.monotone and self.gate is None and ordered and self.pointwise()

    def at_distances(self, distances: Tensor) -> SampledDistanceBias:
        if not self.consecutive():
            raise UserError("distances cannot be sampled here: they are not counted in tokens")
        own = {one.name: getattr(self, one.name) for one in fields(self)}
        own |= {"columns": None, "split": False, "rows": None}
        return SampledDistanceBias(**own, table=distances.to(self.dtype))

    def part(self, rows: slice, start: int) -> Self:
        """The bias of query rows a..b-1 over the keys from `start` to the last that they see."""
        keys = self.keys[..., start : self.stop(rows)]
        return replace(self, queries=self.queries[..., rows], keys=keys, positions=None, rows=None)

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
            positions=None,
            rows=None,
            gate=None if self.gate is None else pick(self.gate, 1),
            values=tuple(pick(value, 0) for value in self.values),
        )


@dataclass(frozen=True)
class SampledDistanceBias(DistanceBias):
    """A bias of distances d_n, where n tokens lie between: the same along each diagonal, at no positions' difference.

    Args:
        table: (S,) d_n for n = 0, 1, ...
    """

    table: Tensor = field(kw_only=True)

    def pointwise(self) -> bool:
        return False

    def distance(self, rows: slice) -> Tensor:
        # What lies above the diagonal is masked.
        return self.table[super().distance(rows).round().long().clamp_min(0)]


def halves(positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Positions in the wide dtype as two numbers of `dtype`: their differences keep what one would lose far out."""
    high = positions.to(dtype)
    return high, (positions - high).detach().to(dtype)


def distance_bias(
    kernel: Kernel,
    queries: Tensor,
    past: Bias | None,
    *,
    x: Tensor,
    heads: int,
    gate: Tensor | None = None,
    order: Order = "after_gate",
    whole: bool = True,
    counted: bool = False,
) -> DistanceBias:
    """The bias kernel(g_i (S_i - S_j)) of new tokens at positions `queries` (B or 1, H or 1, T), after `past`; `whole`
    says that distances are whole numbers, which differences in float32 keep, and `counted` that the positions are known
    to go up by ones, right after those of `past`.
    """
    dtype = wide_enough(x)
    counted = counted and (not isinstance(past, DistanceBias) or past.is_counted)
    positions: PositionCache | None = None
    rows: DistanceRowCache | None = None
    if isinstance(past, DistanceBias) and not torch.is_grad_enabled():
        positions = (past.positions or PositionCache(Cache(past.keys), dtype)).append(queries)
        if queries.size(-1) > 1:
            keys = positions.keys
        else:
            rows = next_rows(past, positions) if whole and gate is None else None
            keys = positions.near()
            queries = keys.narrow(-1, keys.size(-1) - 1, 1)
    else:
        keys = with_past(queries, past)
    return DistanceBias(
        heads=heads,
        queries=queries,
        keys=keys,
        positions=positions,
        rows=rows,
        phi=kernel.phi,
        values=kernel.values(),
        columns=kernel.low_rank if order == "after_gate" or gate is None else None,
        gate=gate,
        order=order,
        nonnegative=kernel.needs_nonnegative,
        monotone=kernel.monotone,
        split=kernel.steep and not whole,
        counted=Counted(queries, keys) if counted else None,
        dtype=dtype,
    )


def next_rows(past: DistanceBias, positions: PositionCache) -> DistanceRowCache | None:
    """The rows for the one token that the positions end with, after `past`; None where none serve."""
    # On a GPU, asking where the tokens stand would wait for it.
    if positions.last.numel() > 1 or not positions.last.is_cpu:
        return None
    if past.positions is None or past.queries.size(-1) > 1:
        return DistanceRowCache() if consecutive(positions.keys) else None
    follows = past.rows is not None and float(positions.last) == float(past.positions.last) + 1
    return past.rows if follows else None
