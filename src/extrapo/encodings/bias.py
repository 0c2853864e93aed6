"""Bias: how an additive bias is made, never the T x T matrix itself. Attention picks the cheapest exact path from it.

Shapes, here and everywhere: B batch, H heads, T queries, S keys, R rows of a tile, d head width, D model width.
The queries of a bias are the last T of its S tokens: S = T in a parallel pass, S > T while decoding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from extrapo.kernels.base import Columns

Order = Literal["after_gate", "before_gate"]


class Bias(ABC):
    """One layer's bias for T queries and S keys.

    `additive` says that logit = s q.k + tile. Where it is False the encoding owns the logits: `score` is the whole
    of them, and `tile` is only their additive part.
    """

    additive: ClassVar[bool] = True

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int, int]:
        """(B or 1, H, T, S)."""

    @abstractmethod
    def tile(self, rows: slice) -> Tensor:
        """The additive bias of query rows a..b-1 over the keys 0..S-T+b-1: (B or 1, H or 1, R, S-T+b), unmasked."""

    @abstractmethod
    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors it is made from, which gradients flow to."""

    @abstractmethod
    def rebuilt(self, tensors: Sequence[Tensor]) -> Bias:
        """The same bias over other tensors, given in the order of `tensors()`."""

    def fold(self) -> Columns | None:
        """The bias as extra columns of q and k, exact up to a term of the row; None where it has no such form."""
        return None

    def score(self, q: Tensor, k: Tensor, scale: float, rows: slice) -> Tensor:
        """The logits of query rows a..b-1 over the keys 0..S-T+b-1, unmasked.

        Args:
            q: (B, H, R, d), these rows alone.
            k: (B, H, S-T+b, d).
            scale: s, the factor of the dot product.
            rows: a..b.
        """
        return scale * (q @ k.transpose(-1, -2)) + self.tile(rows)

    def dense(self) -> Tensor:
        """(B or 1, H, T, S) in float32: the additive bias, -inf where the key is later than the query."""
        batch, heads, queries, keys = self.shape
        full = self.tile(slice(0, queries)).detach().float().expand(batch, heads, queries, keys)
        return full.masked_fill(causal_mask(queries, keys, full.device), float("-inf"))


def causal_mask(queries: int, keys: int, device: torch.device) -> Tensor:
    """(T, S) bool: True where the key comes after the query."""
    return torch.ones(queries, keys, dtype=torch.bool, device=device).triu_(keys - queries + 1)


@dataclass(frozen=True)
class NoBias(Bias):
    """Nothing is added to the logits.

    Args:
        heads: number of heads.
        queries: T.
        keys: S.
        device: where `dense` is built.
    """

    heads: int
    queries: int
    keys: int
    device: torch.device

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return 1, self.heads, self.queries, self.keys

    def tile(self, rows: slice) -> Tensor:
        stop = self.keys - self.queries + rows.stop
        return torch.zeros(1, self.heads, rows.stop - rows.start, stop, device=self.device)

    def tensors(self) -> tuple[Tensor, ...]:
        return ()

    def rebuilt(self, tensors: Sequence[Tensor]) -> NoBias:
        return self

    def score(self, q: Tensor, k: Tensor, scale: float, rows: slice) -> Tensor:
        return scale * (q @ k.transpose(-1, -2))


@dataclass(frozen=True)
class DistanceBias(Bias):
    """kappa(g_i (S_i - S_j)): a kernel of the distance between positions.

    Args:
        heads: number of heads.
        queries: (B or 1, H or 1, T) positions S_i.
        keys: (B or 1, H or 1, S) positions S_j; its last T are the queries' own tokens.
        phi: the kernel's formula, see Kernel.phi.
        values: the kernel's parameters in force.
        fold_columns: the kernel's fold, see Kernel.fold.
        gate: (B, H, T) factor g_i on the distance, or None for 1.
        order: the gate inside the kernel, kappa(g z), or outside, g kappa(z).
        nonnegative: clamp distances at 0, for kernels that are not defined below it (above the diagonal, masked later).
        dtype: dtype of the tile; differences of positions are taken in the positions' own, wider one.
    """

    heads: int
    queries: Tensor
    keys: Tensor
    phi: Callable[..., Tensor]
    values: tuple[Tensor, ...] = ()
    fold_columns: Callable[..., Columns | None] | None = None
    gate: Tensor | None = None
    order: Order = "after_gate"
    nonnegative: bool = True
    dtype: torch.dtype = torch.float32

    @property
    def shape(self) -> tuple[int, int, int, int]:
        batch = max(self.queries.size(0), 1 if self.gate is None else self.gate.size(0))
        return batch, self.heads, self.queries.size(-1), self.keys.size(-1)

    def distance(self, rows: slice) -> Tensor:
        """S_i - S_j of a tile, (B or 1, H or 1, R, keys up to the last row), in `dtype`.

        Positions are measured from the tile's first row before they are rounded, so that what is lost is relative to
        the distance and not to the length of the text.
        """
        stop = self.keys.size(-1) - self.queries.size(-1) + rows.stop
        origin = self.queries[..., rows.start : rows.start + 1].detach()
        row = (self.queries[..., rows] - origin).to(self.dtype)
        column = (self.keys[..., :stop] - origin).to(self.dtype)
        return row.unsqueeze(-1) - column.unsqueeze(-2)

    def tile(self, rows: slice) -> Tensor:
        z = self.distance(rows)
        if self.nonnegative:
            z = z.clamp_min(0.0)
        values = [value.to(self.dtype) for value in self.values]
        if self.gate is None:
            return self.phi(z, *values)
        gate = self.gate[..., rows].to(self.dtype).unsqueeze(-1)
        return self.phi(gate * z, *values) if self.order == "after_gate" else gate * self.phi(z, *values)

    def tensors(self) -> tuple[Tensor, ...]:
        gate = () if self.gate is None else (self.gate,)
        return (self.queries, self.keys, *gate, *self.values)

    def rebuilt(self, tensors: Sequence[Tensor]) -> DistanceBias:
        queries, keys, *rest = tensors
        gate = None if self.gate is None else rest.pop(0)
        return replace(self, queries=queries, keys=keys, gate=gate, values=tuple(rest))

    def fold(self) -> Columns | None:
        if self.fold_columns is None:
            return None
        # Positions are measured from the middle of the text: half the magnitude, one bit more in the folded column.
        middle = self.keys[..., self.keys.size(-1) // 2 :][..., :1].detach()
        queries, keys = (self.queries - middle).to(self.dtype), (self.keys - middle).to(self.dtype)
        gate = None if self.gate is None else self.gate.to(self.dtype)
        values = [value.to(self.dtype) for value in self.values]
        return self.fold_columns(queries, keys, gate, *values)
