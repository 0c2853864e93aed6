"""Bodies of a tile that are compiled: from q, k and v to its output and back, with the bias's own formula in one loop.

From s q.k to weights an encoding's formula takes several passes over a tile, and its derivative several more, each of
which costs as much as a third of a matrix product. A compiler makes one loop of each, once for all layers that have
the same formula, and what lies between two products is a single call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from extrapo.attention.compiled import compiled
from extrapo.attention.divided import divided
from extrapo.attention.elementary import of_few_numbers
from extrapo.encodings.bias import Formula

#: Sizes to trace with: each its own, so that none is taken for another, and none is 1.
BATCH, HEADS, ROWS, KEYS, TEXT, PAST, WIDTH, VALUES = 3, 5, 7, 11, 13, 17, 19, 23

Body = Callable[..., Any]

#: Of each factor, its dtype, and in which of (B, H, R, S') it has as many numbers as the logits, not one for all.
Factors = tuple[tuple[torch.dtype, tuple[bool, ...]], ...]


def described(factors: Sequence[Tensor], tile: Sequence[int]) -> Factors:
    """The factors of a tile of shape (B, H, R, S')."""
    return tuple((f.dtype, tuple(a == b for a, b in zip(f.shape, tile, strict=True))) for f in factors)


@lru_cache(maxsize=4)
def exponential_loop(dtype: torch.dtype) -> Body | None:
    """(logits, shift, out) -> (): writes exp(logits - shift), (B, H, R, S'), with a shift (B, H, R, 1); None if
    impossible. The logits may be overwritten by it.
    """

    def exponential(logits: Tensor, shift: Tensor, out: Tensor) -> tuple[Tensor, ...]:
        out.copy_((logits - shift).exp())
        return ()

    logits = torch.rand(BATCH, HEADS, ROWS, KEYS, dtype=dtype)
    return compiled(exponential, logits, logits[..., :1].clone(), logits.clone())


@lru_cache(maxsize=64)
def tile_forward(formula: Formula, dtype: torch.dtype, factors: Factors) -> Body | None:
    """A tile of the forward pass in one call; None if impossible.

    (q, k, v, scale, row, column, *factors) -> its output (BH, R, d), each row's log-sum-exp and the sum of its weights
    before they are divided by that, (B, H, R, 1) both.

        q            (BH, R, d), part of (BH, T, d)
        k, v         (BH, S', d), parts of (BH, S, d)
        scale        (1, 1, 1, 1), s: a tensor of float64 without dimensions would be taken for a constant
        row, column  (1, H, R, 1) and (S'), where they stand among the keys: what is later weighs nothing

    Weights are e^(logit - own), with the logit of the query's own key in place of the largest, which would take a pass
    of its own: their sum is at least 1. Where another logit is so much larger that it is too large a number, the tile
    is to be made otherwise.
    """
    exponent = parts(formula, dtype, factors)

    def forward(
        q: Tensor, k: Tensor, v: Tensor, scale: Tensor, row: Tensor, column: Tensor, *factors: Tensor
    ) -> tuple[Tensor, ...]:
        rows, keys = q.size(1), k.size(1)
        content = by_head(torch.bmm(q, k.transpose(1, 2)), row) * scale
        itself = by_head((q * k[:, keys - rows :]).sum(-1, keepdim=True), row) * scale
        with of_few_numbers():
            own = formula(itself, *(on_diagonal(f, flags, rows) for f, (_, flags) in zip(factors, kinds, strict=True)))
        weights = torch.where(column <= row, exponential(exponent(content, *factors), own), 0.0)
        total = weights.sum(-1, keepdim=True)
        out = torch.bmm(weights.flatten(0, 1), v) / total.flatten(0, 1)
        with of_few_numbers():
            return out, own + total.log(), total

    kinds = factors
    q, _, k, v = inputs(dtype)
    row = torch.rand(1, HEADS, ROWS, 1, dtype=dtype)
    return compiled(forward, q, k, v, q.new_ones(1, 1, 1, 1), row, torch.rand(KEYS, dtype=dtype), *examples(factors))


@lru_cache(maxsize=64)
def tile_again(formula: Formula, dtype: torch.dtype, factors: Factors, trained: tuple[bool, ...]) -> Body | None:
    """A tile of the backward pass in one call, its first two products included; None if impossible.

    (q, k, v, grad, scale, kept, towards, row, column, *factors) -> weights p and the gradient ds of the content, both
    (BH, R, S'), and the gradients of the trained factors. What `tile_forward` has not:

        grad     (BH, R, d), the gradient of the output, part of (BH, T, d)
        kept     (B, H, R, 1), each row's log-sum-exp
        towards  (B, H, R, 1), the mean of grad . v under p
    """
    exponent = parts(formula, dtype, factors)

    def again(
        q: Tensor, k: Tensor, v: Tensor, grad: Tensor, scale: Tensor, kept: Tensor, towards: Tensor,
        row: Tensor, column: Tensor, *factors: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        def of_trained(content: Tensor, *leaves: Tensor) -> Tensor:
            rest = iter(leaves)
            return formula(content, *(next(rest) if t else f for f, t in zip(factors, trained, strict=True)))

        content = by_head(torch.bmm(q, k.transpose(1, 2)), row) * scale
        p = torch.where(column <= row, exponential(exponent(content, *factors), kept), 0.0)
        dp = by_head(torch.bmm(grad, v.transpose(1, 2)), row)
        _, pull, *_ = torch.func.vjp(of_trained, content, *(f for f, t in zip(factors, trained, strict=True) if t))
        # The softmax's Jacobian: dS = P * (dP - rowsum(P * dP)).
        found: tuple[Tensor, ...] = pull(p * (dp - towards))
        return p.flatten(0, 1), found[0].flatten(0, 1), *found[1:]

    q, grad, k, v = inputs(dtype)
    kept = torch.rand(BATCH, HEADS, ROWS, 1, dtype=dtype)
    row, column = torch.rand(1, HEADS, ROWS, 1, dtype=dtype), torch.rand(KEYS, dtype=dtype)
    return compiled(again, q, k, v, grad, q.new_ones(1, 1, 1, 1), kept, kept.clone(), row, column, *examples(factors))


def by_head(x: Tensor, row: Tensor) -> Tensor:
    """(BH, ...) -> (B, H, ...), of as many heads as `row` has, (1, H, R, 1)."""
    return x.view(-1, row.size(1), *x.shape[1:])


def exponential(sums: Sequence[Tensor], shift: Tensor) -> Tensor:
    """e^(a - shift - ln b - ...) of sums a, b, ..."""
    first, *divisors = sums
    found = (first - shift).exp()
    for divisor in divisors:
        found = found / divisor
    return found


def on_diagonal(factor: Tensor, flags: tuple[bool, ...], rows: int) -> Tensor:
    """A factor for each query and its own key, (B or 1, H or 1, R or 1, 1): the last R keys are the queries' own."""
    return factor[..., factor.size(-1) - rows :].transpose(-1, -2) if flags[-1] else factor


def parts(formula: Formula, dtype: torch.dtype, factors: Factors) -> Callable[..., tuple[Tensor, ...]]:
    """The formula without its logarithms, and what they are taken of; see `divided`."""

    def plain(*given: Tensor) -> Tensor:
        return formula(*given)

    try:
        return divided(plain, torch.rand(BATCH, HEADS, ROWS, KEYS, dtype=dtype), *examples(factors))
    except Exception:
        # What cannot be traced is compiled as it is, or said to be impossible.
        return lambda *given: (formula(*given),)


def inputs(dtype: torch.dtype) -> list[Tensor]:
    """A tile's q, grad, k and v to trace with."""
    shapes = (TEXT, WIDTH, ROWS), (TEXT, VALUES, ROWS), (PAST, WIDTH, KEYS), (PAST, VALUES, KEYS)
    return [torch.rand(BATCH * HEADS, length, width, dtype=dtype)[:, :size] for length, width, size in shapes]


def examples(factors: Factors) -> list[Tensor]:
    """Factors to trace with."""
    sizes = BATCH, HEADS, ROWS, KEYS
    shapes = [[size if many else 1 for size, many in zip(sizes, full, strict=True)] for _, full in factors]
    return [torch.rand(shape, dtype=kind) for shape, (kind, _) in zip(shapes, factors, strict=True)]
