"""Compiled tiles: from q, k and v to the output and back in one call, with the bias's own formula in its loop.

From s q.k to weights an encoding's formula takes several passes over a tile, and its derivative several more, each of
which costs as much as a third of a matrix product. A compiler makes one loop of each, once for all layers that have
the same formula, and what lies between two products is a single call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from extrapo.attention.cpu.compiler import compile_function
from extrapo.attention.cpu.fast_math import of_few_numbers
from extrapo.attention.cpu.private import CompiledFunction
from extrapo.attention.cpu.rewrite_exp_log import rewrite_exp_log
from extrapo.encodings.core.logit import Logit

#: Sizes to trace with: each its own, so that none is taken for another, and none is 1. HEADS: B x H.
HEADS, ROWS, KEYS, TEXT, PAST, WIDTH, VALUES, LINE = 5, 7, 11, 13, 17, 19, 23, 29

#: Of each factor, its dtype, and whether it has a number for each of the R rows and of the S' keys, or one for all.
#: Where it has both, it is the same along every diagonal: a view of one line, from the last row to the first.
Kinds = tuple[tuple[torch.dtype, bool, bool], ...]


def kinds_of(factors: Sequence[Tensor]) -> Kinds:
    """Of factors of shape (BH, R or 1, S' or 1)."""
    return tuple((factor.dtype, factor.size(-2) > 1, factor.size(-1) > 1) for factor in factors)


@lru_cache(maxsize=4)
def exponential_loop(dtype: torch.dtype) -> CompiledFunction | None:
    """(logits, shift, out) -> (): writes exp(logits - shift), (BH, R, S'), with a shift (BH, R, 1); None if impossible.
    The logits may be overwritten by it.
    """

    def loop(logits: Tensor, shift: Tensor, out: Tensor) -> tuple[Tensor, ...]:
        out.copy_((logits - shift).exp())
        return ()

    logits = torch.rand(HEADS, ROWS, KEYS, dtype=dtype)
    return compile_function(loop, logits, logits[..., :1].clone(), logits.clone())


@lru_cache(maxsize=64)
def tile_forward(logit: Logit, dtype: torch.dtype, kinds: Kinds) -> CompiledFunction | None:
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
    terms = without_logarithms(logit, dtype, kinds)

    def forward(
        q: Tensor, k: Tensor, v: Tensor, scale: Tensor, row: Tensor, column: Tensor, *factors: Tensor
    ) -> tuple[Tensor, ...]:
        rows, keys = q.size(1), k.size(1)
        scores = torch.bmm(q, k.transpose(1, 2)) * scale
        own_scores = (q * k[:, keys - rows :]).sum(-1, keepdim=True) * scale
        with of_few_numbers():
            own = logit(own_scores, *(on_diagonal(f, kind, rows) for f, kind in zip(factors, kinds, strict=True)))
        weights = torch.where(column <= row, exponential(terms(scores, *factors), own), 0.0)
        total = weights.sum(-1, keepdim=True)
        out = torch.bmm(weights, v) / total
        with of_few_numbers():
            return out, own + total.log(), total

    q, _, k, v = example_inputs(dtype)
    return compile_function(forward, q, k, v, *example_coordinates(dtype), *example_factors(kinds))


@lru_cache(maxsize=64)
def tile_backward(logit: Logit, dtype: torch.dtype, kinds: Kinds, trained: tuple[bool, ...]) -> CompiledFunction | None:
    """A tile of the backward pass in one call, its five products included; None if impossible.

    (q, k, v, grad, lse, delta, scale, row, column, *factors) -> the gradient of q (BH, R, d), those of k and v
    (BH, d, S'), and of the trained factors. What `tile_forward` has not:

        grad     (BH, R, d), the gradient of the output, part of (BH, T, d)
        lse      (BH, R, 1), each row's log-sum-exp
        delta    (BH, R, 1), the mean of grad . v under p

    Transposed: a product that is as long as the text and as wide as a head is the faster one.
    """
    terms = without_logarithms(logit, dtype, kinds)

    def backward(
        q: Tensor, k: Tensor, v: Tensor, grad: Tensor, lse: Tensor, delta: Tensor,
        scale: Tensor, row: Tensor, column: Tensor, *factors: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        def of_trained(scores: Tensor, *leaves: Tensor) -> Tensor:
            rest = iter(leaves)
            return logit(scores, *(next(rest) if t else f for f, t in zip(factors, trained, strict=True)))

        scores = torch.bmm(q, k.transpose(1, 2)) * scale
        p = torch.where(column <= row, exponential(terms(scores, *factors), lse), 0.0)
        dp = torch.bmm(grad, v.transpose(1, 2))
        _, pull, *_ = torch.func.vjp(of_trained, scores, *(f for f, t in zip(factors, trained, strict=True) if t))
        # The softmax's Jacobian: dS = P * (dP - rowsum(P * dP)).
        ds, *of_factors = pull(p * (dp - delta))
        ds = ds * scale
        return torch.bmm(ds, k), torch.bmm(q.transpose(1, 2), ds), torch.bmm(grad.transpose(1, 2), p), *of_factors

    q, grad, k, v = example_inputs(dtype)
    lse = torch.rand(HEADS, ROWS, 1, dtype=dtype)
    return compile_function(
        backward, q, k, v, grad, lse, lse.clone(), *example_coordinates(dtype), *example_factors(kinds)
    )


def exponential(terms: Sequence[Tensor], shift: Tensor) -> Tensor:
    """e^(a - shift - ln b - ...) of terms a, b, ..."""
    first, *divisors = terms
    power = (first - shift).exp()
    for divisor in divisors:
        power = power / divisor
    return power


def on_diagonal(factor: Tensor, kind: tuple[torch.dtype, bool, bool], rows: int) -> Tensor:
    """A factor for each query and its own key, (BH, R or 1, 1): the last R keys are the queries' own."""
    _, by_row, by_key = kind
    if by_row and by_key:
        return factor[..., :1, -1:]
    return factor[..., factor.size(-1) - rows :].transpose(-1, -2) if by_key else factor


def without_logarithms(logit: Logit, dtype: torch.dtype, kinds: Kinds) -> Callable[..., tuple[Tensor, ...]]:
    """(a, b, ...) of the formula a - ln b - ..., see `rewrite_exp_log`."""

    def formula(*inputs: Tensor) -> Tensor:
        return logit(*inputs)

    try:
        return rewrite_exp_log(formula, torch.rand(HEADS, ROWS, KEYS, dtype=dtype), *example_factors(kinds))
    except Exception:
        # What cannot be traced is compiled as it is, or said to be impossible.
        return lambda *inputs: (logit(*inputs),)


def example_inputs(dtype: torch.dtype) -> list[Tensor]:
    """A tile's q, grad, k and v to trace with."""
    shapes = (TEXT, WIDTH, ROWS), (TEXT, VALUES, ROWS), (PAST, WIDTH, KEYS), (PAST, VALUES, KEYS)
    return [torch.rand(HEADS, length, width, dtype=dtype)[:, :size] for length, width, size in shapes]


def example_coordinates(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """A scale, rows and columns to trace with."""
    return torch.ones(1, 1, 1, dtype=dtype), torch.rand(ROWS, 1, dtype=dtype), torch.rand(KEYS, dtype=dtype)


def example_factors(kinds: Kinds) -> list[Tensor]:
    """Factors to trace with."""

    def example(dtype: torch.dtype, by_row: bool, by_key: bool) -> Tensor:
        if by_row and by_key:
            return torch.rand(HEADS, LINE, dtype=dtype).unfold(-1, KEYS, 1)[:, :ROWS]
        return torch.rand(HEADS, ROWS if by_row else 1, KEYS if by_key else 1, dtype=dtype)

    return [example(*kind) for kind in kinds]
