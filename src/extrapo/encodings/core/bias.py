"""Bias: how an additive bias is made, never the T x T matrix itself. Attention picks the cheapest exact path from it.

Shapes, here and everywhere: B batch, H heads, T queries, S keys, R rows of a tile, d head width, D model width.
The queries of a bias are the last T of its S tokens: S = T in a parallel pass, S > T while decoding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from extrapo.encodings.core.visibility import Sight
from extrapo.kernels.base import Columns


class Formula(ABC):
    """The logits of a tile, number by number: what a compiler can make one loop of. Subclasses are frozen dataclasses
    without tensors: equal ones share what was compiled.

    `additive` says that it only adds to the content.
    """

    additive: bool = True

    @abstractmethod
    def __call__(self, content: Tensor, *factors: Tensor) -> Tensor:
        """The logits (..., R, S') of the content s q.k, and of factors that broadcast with it."""


class Bias(ABC):
    """One layer's bias for T queries and S keys. Subclasses are frozen dataclasses.

    `additive` says that logit = s q.k + tile. Where it is False the encoding owns the logits: `score` is the whole
    of them, and `tile` is only their additive part.
    """

    @property
    def additive(self) -> bool:
        """Whether the logits are s q.k + tile, and the weights their softmax."""
        return True

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int, int]:
        """(B or 1, H, T, S)."""

    @abstractmethod
    def tile(self, rows: slice) -> Tensor:
        """The additive bias of query rows a..b-1 over the keys 0..S-T+b-1: (B or 1, H or 1, R, S-T+b), unmasked."""

    def row(self) -> Tensor:
        """The additive bias of the only query, (B or 1, H or 1, 1, S), up to a constant: what decoding adds."""
        return self.tile(slice(0, 1))

    def pair(self) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] | None:
        """The additive bias of one pair, (batch, head, query, key) indices -> number; None where `tile` is more.

        For compilers that make an attention kernel of it: from the same formula as `tile`, and no other.
        """
        return None

    def sight(self) -> Sight | None:
        """A bound on what queries see, None for all: keys out of sight have the bias -inf, and may be left out."""
        return None

    def formula(self) -> Formula | None:
        """The logits, of which the weights are the softmax, as a function of s q.k and of `factors`, number by number;
        None where a tile is more than that.
        """
        return None

    def factors(self, rows: slice) -> tuple[Tensor, ...]:
        """What `formula` reads for query rows a..b-1: (B or 1, H or 1, R or 1, S-T+b or 1) each, none a tile."""
        raise TypeError(f"{type(self).__name__} has no formula")

    def line(self) -> tuple[Tensor, Tensor] | None:
        """(t, b) of the last query and all keys, (1, H or 1, 1, S) each, where the logits are t s q.k + b and both are
        the same along every diagonal; None where they are not, or nothing knows.
        """
        return None

    def toeplitz(self) -> bool:
        """Whether `tile` is the same along every diagonal and for every text: made once, it serves all tiles."""
        return False

    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors it is made from, which gradients flow to: those of its fields, in order."""
        found: list[Tensor] = []
        for value in self._fields():
            if isinstance(value, Tensor):
                found.append(value)
            elif isinstance(value, Bias):
                found += value.tensors()
            elif isinstance(value, tuple):
                found += value
        return tuple(found)

    def rebuilt(self, tensors: Sequence[Tensor]) -> Self:
        """The same bias over other tensors, given in the order of `tensors()`."""
        rest = iter(tensors)
        found: dict[str, Any] = {}
        for name, value in zip(self._names(), self._fields(), strict=True):
            if isinstance(value, Tensor):
                found[name] = next(rest)
            elif isinstance(value, Bias):
                found[name] = value.rebuilt([next(rest) for _ in value.tensors()])
            elif isinstance(value, tuple):
                found[name] = tuple(next(rest) for _ in value)
        return replace(self, **found)  # type: ignore[type-var]

    def _names(self) -> list[str]:
        assert is_dataclass(self), f"{type(self).__name__} must be a dataclass, or override tensors() and rebuilt()"
        return [field.name for field in fields(self)]

    def _fields(self) -> list[Any]:
        """Values of the fields; a tuple counts where all its members are tensors."""
        values = [getattr(self, name) for name in self._names()]
        return [None if isinstance(v, tuple) and not all(isinstance(t, Tensor) for t in v) else v for v in values]

    def given(self, q: Tensor, k: Tensor) -> Bias:
        """The same bias once queries (B, H, T, d) and keys (B, H, S, d) are known, for schemes that read them."""
        return self

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

    def mix(self, logits: Tensor, v: Tensor, rows: slice) -> Tensor:
        """The output of query rows a..b-1, softmax(logits) v, for schemes that weigh or mix values otherwise.

        Args:
            logits: (B, H, R, S-T+b), -inf where the key is later than the query.
            v: (B, H, S-T+b, d).
            rows: a..b.

        Returns:
            (B, H, R, d).
        """
        return logits.softmax(dim=-1).to(v.dtype) @ v

    def cached(self, k: Tensor) -> Tensor:
        """The keys (B, H, S, d) as the next step of decoding must find them; only schemes that rewrite them differ."""
        return k

    def dense(self) -> Tensor:
        """(B or 1, H, T, S) in float32: the additive bias, -inf where the key is later than the query."""
        batch, heads, queries, keys = self.shape
        full = self.tile(slice(0, queries)).detach().float().expand(batch, heads, queries, keys)
        return full.masked_fill(causal_mask(queries, keys, full.device), float("-inf"))


def causal_mask(queries: int, keys: int, device: torch.device) -> Tensor:
    """(T, S) bool: True where the key comes after the query."""
    return torch.ones(queries, keys, dtype=torch.bool, device=device).triu_(keys - queries + 1)


@dataclass(frozen=True)
class Content(Formula):
    """s q.k."""

    def __call__(self, content: Tensor, *factors: Tensor) -> Tensor:
        return content


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

    def formula(self) -> Formula | None:
        # A subclass may own its logits, by its own `score`.
        return Content() if type(self) is NoBias else None

    def factors(self, rows: slice) -> tuple[Tensor, ...]:
        return ()

    def score(self, q: Tensor, k: Tensor, scale: float, rows: slice) -> Tensor:
        return scale * (q @ k.transpose(-1, -2))


@dataclass(frozen=True)
class HostedBias(Bias):
    """A bias made of another one, its host: whatever a subclass does not say is as the host has it, but for `fold`.

    Args:
        host: the other bias.
    """

    host: Bias

    @property
    def additive(self) -> bool:
        return self.host.additive

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.host.shape

    def tile(self, rows: slice) -> Tensor:
        return self.host.tile(rows)

    def given(self, q: Tensor, k: Tensor) -> Bias:
        return replace(self, host=self.host.given(q, k))

    def score(self, q: Tensor, k: Tensor, scale: float, rows: slice) -> Tensor:
        return self.host.score(q, k, scale, rows)

    def mix(self, logits: Tensor, v: Tensor, rows: slice) -> Tensor:
        return self.host.mix(logits, v, rows)

    def cached(self, k: Tensor) -> Tensor:
        return self.host.cached(k)
