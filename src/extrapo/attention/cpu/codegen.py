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

from extrapo.attention.cpu.compiler import compiled
from extrapo.attention.cpu.rewrite_exp_log import divided
from extrapo.attention.cpu.fast_math import of_few_numbers
from extrapo.encodings.core.bias import Formula

#: Sizes to trace with: each its own, so that none is taken for another, and none is 1. HEADS: B x H.
HEADS, ROWS, KEYS, TEXT, PAST, WIDTH, VALUES, LINE = 5, 7, 11, 13, 17, 19, 23, 29

Body = Callable[..., Any]

#: Of each factor, its dtype, and whether it has a number for each of the R rows and of the S' keys, or one for all.
#: Where it has both, it is the same along every diagonal: a view of one line, from the last row to the first.
Factors = tuple[tuple[torch.dtype, bool, bool], ...]


def described(factors: Sequence[Tensor]) -> Factors:
    """Factors of shape (BH, R or 1, S' or 1)."""
    return tuple((factor.dtype, factor.size(-2) > 1, factor.size(-1) > 1) for factor in factors)


@lru_cache(maxsize=4)
def exponential_loop(dtype: torch.dtype) -> Body | None:
    """(logits, shift, out) -> (): writes exp(logits - shift), (BH, R, S'), with a shift (BH, R, 1); None if impossible.
    The logits may be overwritten by it.
    """

    def exponential(logits: Tensor, shift: Tensor, out: Tensor) -> tuple[Tensor, ...]:
        out.copy_((logits - shift).exp())
        return ()

    logits = torch.rand(HEADS, ROWS, KEYS, dtype=dtype)
    return compiled(exponential, logits, logits[..., :1].clone(), logits.clone())


@lru_cache(maxsize=64)
def tile_forward(formula: Formula, dtype: torch.dtype, factors: Factors) -> Body | None:
    """A tile of the forward pass in one call; None if impossible.

    (q, k, v, scale, row, column, *factors) -> its output (BH, R, d), each row's log-sum-exp and the sum of its weights
    before they are divided by that, (BH, R, 1) both.

        q            (BH, R, d), part of (BH, T, d)
        k, v         (BH, S', d), parts of (BH, S, d)
        scale        (1, 1, 1), s: a tensor of float64 without dimensions would be taken for a constant
        row, column  (R, 1) and (S'), where they stand among the keys: what is later weighs nothing
        factors      (BH, R or 1, S' or 1) each

    Weights are e^(logit - own), with the logit of the query's own key in place of the largest, which would take a pass
    of its own: their sum is at least 1. Where another logit is so much larger that it is too large a number, the tile
    is to be made otherwise.
    """
    exponent = parts(formula, dtype, factors)

    def forward(
        q: Tensor, k: Tensor, v: Tensor, scale: Tensor, row: Tensor, column: Tensor, *factors: Tensor
    ) -> tuple[Tensor, ...]:
        rows, keys = q.size(1), k.size(1)
        content = torch.bmm(q, k.transpose(1, 2)) * scale
        itself = (q * k[:, keys - rows :]).sum(-1, keepdim=True) * scale
        with of_few_numbers():
            own = formula(itself, *(on_diagonal(f, kind, rows) for f, kind in zip(factors, kinds, strict=True)))
        weights = torch.where(column <= row, exponential(exponent(content, *factors), own), 0.0)
        total = weights.sum(-1, keepdim=True)
        out = torch.bmm(weights, v) / total
        with of_few_numbers():
            return out, own + total.log(), total

    kinds = factors
    q, _, k, v = inputs(dtype)
    return compiled(forward, q, k, v, *places(dtype), *examples(factors))


@lru_cache(maxsize=64)
def tile_back(formula: Formula, dtype: torch.dtype, factors: Factors, trained: tuple[bool, ...]) -> Body | None:
    """A tile of the backward pass in one call, its five products included; None if impossible.

    (q, k, v, grad, kept, towards, scale, row, column, *factors) -> the gradient of q (BH, R, d), those of k and v
    (BH, d, S'), and of the trained factors. What `tile_forward` has not:

        grad     (BH, R, d), the gradient of the output, part of (BH, T, d)
        kept     (BH, R, 1), each row's log-sum-exp
        towards  (BH, R, 1), the mean of grad . v under p

    Transposed: a product that is as long as the text and as wide as a head is the faster one.
    """
    exponent = parts(formula, dtype, factors)

    def back(
        q: Tensor, k: Tensor, v: Tensor, grad: Tensor, kept: Tensor, towards: Tensor,
        scale: Tensor, row: Tensor, column: Tensor, *factors: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        def of_trained(content: Tensor, *leaves: Tensor) -> Tensor:
            rest = iter(leaves)
            return formula(content, *(next(rest) if t else f for f, t in zip(factors, trained, strict=True)))

        content = torch.bmm(q, k.transpose(1, 2)) * scale
        p = torch.where(column <= row, exponential(exponent(content, *factors), kept), 0.0)
        dp = torch.bmm(grad, v.transpose(1, 2))
        _, pull, *_ = torch.func.vjp(of_trained, content, *(f for f, t in zip(factors, trained, strict=True) if t))
        # The softmax's Jacobian: dS = P * (dP - rowsum(P * dP)).
        ds, *found = pull(p * (dp - towards))
        ds = ds * scale
        return torch.bmm(ds, k), torch.bmm(q.transpose(1, 2), ds), torch.bmm(grad.transpose(1, 2), p), *found

    q, grad, k, v = inputs(dtype)
    kept = torch.rand(HEADS, ROWS, 1, dtype=dtype)
    return compiled(back, q, k, v, grad, kept, kept.clone(), *places(dtype), *examples(factors))


def exponential(sums: Sequence[Tensor], shift: Tensor) -> Tensor:
    """e^(a - shift - ln b - ...) of sums a, b, ..."""
    first, *divisors = sums
    found = (first - shift).exp()
    for divisor in divisors:
        found = found / divisor
    return found


def on_diagonal(factor: Tensor, kind: tuple[torch.dtype, bool, bool], rows: int) -> Tensor:
    """A factor for each query and its own key, (BH, R or 1, 1): the last R keys are the queries' own."""
    _, by_row, by_key = kind
    if by_row and by_key:
        return factor[..., :1, -1:]
    return factor[..., factor.size(-1) - rows :].transpose(-1, -2) if by_key else factor


def parts(formula: Formula, dtype: torch.dtype, factors: Factors) -> Callable[..., tuple[Tensor, ...]]:
    """The formula without its logarithms, and what they are taken of; see `divided`."""

    def plain(*given: Tensor) -> Tensor:
        return formula(*given)

    try:
        return divided(plain, torch.rand(HEADS, ROWS, KEYS, dtype=dtype), *examples(factors))
    except Exception:
        # What cannot be traced is compiled as it is, or said to be impossible.
        return lambda *given: (formula(*given),)


def inputs(dtype: torch.dtype) -> list[Tensor]:
    """A tile's q, grad, k and v to trace with."""
    shapes = (TEXT, WIDTH, ROWS), (TEXT, VALUES, ROWS), (PAST, WIDTH, KEYS), (PAST, VALUES, KEYS)
    return [torch.rand(HEADS, length, width, dtype=dtype)[:, :size] for length, width, size in shapes]


def places(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """A scale, rows and columns to trace with."""
    return torch.ones(1, 1, 1, dtype=dtype), torch.rand(ROWS, 1, dtype=dtype), torch.rand(KEYS, dtype=dtype)


def examples(factors: Factors) -> list[Tensor]:
    """Factors to trace with."""

    def example(dtype: torch.dtype, by_row: bool, by_key: bool) -> Tensor:
        if by_row and by_key:
            return torch.rand(HEADS, LINE, dtype=dtype).unfold(-1, KEYS, 1)[:, :ROWS]
        return torch.rand(HEADS, ROWS if by_row else 1, KEYS if by_key else 1, dtype=dtype)

    return [example(*kind) for kind in factors]
