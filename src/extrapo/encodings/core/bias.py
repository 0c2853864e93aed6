"""Bias: how a layer's logits are made, never the T x T matrix itself. Attention picks the cheapest exact way from it.

    Elementwise   the logit of a pair is a function of s q.k and of numbers per query, per key and per head
    Rowwise       the scheme owns the logits of a block of rows, and what becomes of the values

Shapes, here and everywhere: B batch, H heads, T queries, S keys, R rows of a tile, S' the keys up to its last row,
d head width, D model width. The queries are the last T of S tokens: S = T in a parallel pass, S > T while decoding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Self, final

import torch
from torch import Tensor

from extrapo.encodings.core.householder import Steps
from extrapo.encodings.core.logit import AddedTile, Content, Logit
from extrapo.encodings.core.visibility import Visibility, hidden
from extrapo.errors import UserError
from extrapo.kernels.low_rank import LowRank


@dataclass(frozen=True)
class Bias(ABC):
    """One layer's logits for T queries and S keys. Subclasses are frozen dataclasses, Elementwise or Rowwise.

    Args:
        left_out: the rest of its scheme, where it is a part that `Encoding.bias` gives by itself: attention refuses
            that.
    """

    left_out: frozenset[str] = field(default=frozenset(), kw_only=True)

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int, int]:
        """(B or 1, H, T, S)."""

    @property
    @abstractmethod
    def additive(self) -> bool:
        """Whether the logits are s q.k + `added`, and the weights their softmax."""

    @abstractmethod
    def added(self, rows: slice) -> Tensor:
        """What is added to the scores of query rows a..b-1, unmasked: it broadcasts to (B, H, R, S')."""

    @abstractmethod
    def score_rows(self, q: Tensor, k: Tensor, scale: float, rows: slice) -> Tensor:
        """The logits of query rows a..b-1 over the keys up to the last of them, unmasked.

        Args:
            q: (B, H, R, d), these rows alone.
            k: (B, H, S', d).
            scale: s, the factor of the dot product.
            rows: a..b.

        Returns:
            (B, H, R, S').
        """

    def mix(self, logits: Tensor, v: Tensor, rows: slice) -> Tensor:
        """The output of query rows a..b-1, softmax(logits) v, for schemes that weigh or mix values otherwise.

        Args:
            logits: (B, H, R, S'), -inf where a key is not seen.
            v: (B, H, S', d).
            rows: a..b.

        Returns:
            (B, H, R, d).
        """
        return logits.softmax(dim=-1).to(v.dtype) @ v

    def visibility(self) -> Visibility | None:
        """What queries see of the keys before them, None for all; attention masks the rest."""
        return None

    def bind(self, q: Tensor, k: Tensor) -> Bias:
        """The same bias once queries (B, H, T, d) and all keys (B, H, S, d) are known, for schemes that read them."""
        return self

    @property
    def needs_binding(self) -> bool:
        """Whether there are no logits before `bind`: they need all keys at once."""
        return False

    @final
    def leaving_out(self, steps: frozenset[str]) -> Self:
        """The same bias, as what is left of its scheme without these steps."""
        return self if self.left_out == steps else replace(self, left_out=steps)

    @final
    def bound_to(self, bound: Bias) -> Bias:
        """`bound`, which is this bias with q and k known, as a part of the same scheme."""
        return bound.leaving_out(self.left_out - {"bind"})

    def rewrite_keys(self, k: Tensor) -> Tensor:
        """The keys (B, H, S, d) as the next step of decoding must find them; `k` itself unless a scheme changes it."""
        return k

    def dense(self) -> Tensor:
        """(B or 1, H, T, S) in float32: what is added to s q.k, -inf where a key is not seen."""
        batch, heads, queries, keys = self.shape
        full = self.added(slice(0, queries)).detach().float().expand(batch, heads, queries, keys)
        return full.masked_fill(hidden(queries, keys, self.visibility(), full.device), float("-inf"))

    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors it is made from, which gradients flow to: those of its fields, in order.

        Raises:
            UserError: a field keeps tensors where they would not be found.
        """
        return tuple(tensor for where, value in self._fields().items() for tensor in tensors_of(value, where))

    def rebuilt(self, tensors: Sequence[Tensor]) -> Self:
        """The same bias over other tensors, given in the order of `tensors()`."""
        rest = iter(tensors)
        made_of = {name: value for name, value in self._fields().items() if any(True for _ in tensors_of(value, name))}
        return replace(self, **{name: with_tensors(value, rest) for name, value in made_of.items()})

    def _fields(self) -> dict[str, Any]:
        """The values of the scheme's own fields by name."""
        values = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "left_out"}
        assert values, f"{type(self).__name__} must be a dataclass"
        return values


def tensors_of(value: Any, where: str) -> Iterator[Tensor]:
    """The tensors of a field called `where`: itself, those of a bias, those in a tuple.

    Raises:
        UserError: some are in something else, which cannot be made again with others.
    """
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Bias):
        yield from value.tensors()
    elif isinstance(value, tuple):
        for member in value:
            yield from tensors_of(member, where)
    elif keeps_tensors(value):
        raise UserError(
            f"gradients would not reach the tensors that a bias keeps in `{where}`, a {type(value).__name__}: "
            "give each a field of its own, or put them into a tuple"
        )


def with_tensors(value: Any, tensors: Iterator[Tensor]) -> Any:
    """A field with the next of other tensors in place of its own."""
    if isinstance(value, Tensor):
        return next(tensors)
    if isinstance(value, Bias):
        return value.rebuilt([next(tensors) for _ in value.tensors()])
    if isinstance(value, tuple):
        # Of its own class: one with names keeps them.
        return tuple.__new__(type(value), [with_tensors(member, tensors) for member in value])
    return value


def keeps_tensors(value: Any) -> bool:
    """Whether there are tensors in a collection, or in a dataclass."""
    if isinstance(value, Tensor):
        return True
    if isinstance(value, Mapping):
        value = tuple(value.values())
    elif is_dataclass(value) and not isinstance(value, type):
        value = tuple(getattr(value, one.name) for one in fields(value))
    return isinstance(value, tuple | list | Set) and any(map(keeps_tensors, value))


class Elementwise(Bias):
    """logit(score, *factors): written once, in `logit` and `factors`; all else follows from these two."""

    @property
    @abstractmethod
    def logit(self) -> Logit:
        """The formula: from the score s q.k and the factors to the logit, number by number."""

    @abstractmethod
    def factors(self, rows: slice) -> tuple[Tensor, ...]:
        """What `logit` reads for query rows a..b-1: (B or 1, H or 1, R or 1, S' or 1) each."""

    def pointwise(self) -> bool:
        """Whether no factor is a tile, so that a compiler can make one loop of the formula."""
        return True

    def low_rank(self) -> LowRank | None:
        """What is added, as a product of columns, exact up to a term of the row; None where it has no such form."""
        return None

    def toeplitz(self) -> bool:
        """Whether the formula is the same along every diagonal and for every text: one line of distances has it all."""
        return False

    def line(self) -> tuple[Tensor | None, Tensor] | None:
        """(t, b) of the last query and all keys, (1, H or 1, 1, S) each, where logits are t s q.k + b and the same
        along every diagonal; t is None for 1. None where they are not so.
        """
        if not self.toeplitz():
            return None
        queries = self.shape[2]
        return self.logit.line(*self.factors(slice(queries - 1, queries)))

    def known_toeplitz(self) -> bool:
        """`toeplitz`, as far as that is known without a look at numbers, for which a GPU would be waited for."""
        return False

    def cached_line(self) -> tuple[Tensor | None, Tensor] | None:
        """`line` of the only query where decoding has it from the step before, else None."""
        return None

    def row_formula(self) -> tuple[Logit, tuple[Tensor, ...]]:
        """A formula of the only query's logits, and its factors: `logit` and `factors`, or what reads the keys as they
        are kept.
        """
        return self.logit, self.factors(slice(0, 1))

    def whole_text(self) -> Elementwise:
        """The same bias, whose factors keep their digits for all rows of a text at once, and not for a tile alone."""
        return self

    def wide_formula(self) -> tuple[Logit, tuple[Tensor, ...]] | None:
        """A formula of S_i, -S_j and others, and what a whole text has of them: positions S_i (B or 1, H or 1, T) and
        S_j (B or 1, H or 1, S) in their wide dtype, for those who measure them from nearby before they round them, and
        the other factors. None where the formula is not of positions.
        """
        return None

    @property
    @final
    def additive(self) -> bool:
        return self.logit.additive

    @final
    def added(self, rows: slice) -> Tensor:
        return self.logit.added(*self.factors(rows))

    @final
    def score_rows(self, q: Tensor, k: Tensor, scale: float, rows: slice) -> Tensor:
        # In half precision a product of far tokens would be rounded before what is added to it.
        dtype = torch.promote_types(q.dtype, torch.float32)
        return self.logit(scale * (q.to(dtype) @ k.to(dtype).transpose(-1, -2)), *self.factors(rows))


class Rowwise(Bias):
    """The scheme owns the logits of a block of rows: `score_rows` is the whole of them."""

    def householder(self) -> Steps | None:
        """The steps H_t of a whole text whose logits are s q_i^T H_i H_{i-1} ... H_{j+1} k_j, all of what comes before
        a query is seen, and the weights their softmax; None where they are anything else.
        """
        return None

    @property
    def additive(self) -> bool:
        return False

    def added(self, rows: slice) -> Tensor:
        batch, heads, queries, keys = self.shape
        zero = torch.zeros(1, 1, 1, 1, device=self.tensors()[0].device)
        return zero.expand(batch, heads, rows.stop - rows.start, keys - queries + rows.stop)


class AddedBias(Elementwise):
    """A bias with a number of each pair, which its class makes tile by tile: its one factor is that tile."""

    @property
    def logit(self) -> Logit:
        return AddedTile()

    @abstractmethod
    def tile(self, rows: slice) -> Tensor:
        """The bias of query rows a..b-1 over the keys up to the last of them: (B or 1, H or 1, R, S'), unmasked."""

    def factors(self, rows: slice) -> tuple[Tensor, ...]:
        return (self.tile(rows),)

    def pointwise(self) -> bool:
        return False


@final
@dataclass(frozen=True)
class NoBias(Elementwise):
    """Nothing is added to the logits.

    Args:
        heads: number of heads.
        queries: T.
        keys: S.
        device: where tensors are made.
    """

    heads: int
    queries: int
    keys: int
    device: torch.device

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return 1, self.heads, self.queries, self.keys

    @property
    def logit(self) -> Logit:
        return Content()

    def factors(self, rows: slice) -> tuple[Tensor, ...]:
        return (torch.zeros(1, 1, 1, 1, device=self.device),)

    def low_rank(self) -> LowRank:
        u, w = (torch.empty(1, 1, n, 0, device=self.device) for n in (self.queries, self.keys))
        return LowRank(u, w)
