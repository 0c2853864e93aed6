"""Attention under a bias: four exact compute paths ("impls"), and the choice between them.

    reference   the plain formula with the whole matrix; the specification
    fold        extra columns of q and k, then the stock fused attention
    tiles       blocks of query rows, recomputed in the backward pass
    flex        a fused kernel that a compiler makes of the bias's formula; only where it is asked for

Every path takes the same Bias; none knows a named encoding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from extrapo.attention.flex import can_flex, flex
from extrapo.attention.fold import can_fold, compiles_gradients, fold, keeps_precision
from extrapo.attention.reference import reference
from extrapo.attention.decode import row
from extrapo.attention.cpu.buffers import keep_freed_memory
from extrapo.attention.pruned import can_skip, skipping
from extrapo.attention.cpu.tiles import compiles, tiles
from extrapo.encodings.core.bias import Bias, NoBias
from extrapo.errors import UserError, unknown

__all__ = [
    "IMPLS",
    "Choice",
    "attend",
    "can_flex",
    "can_fold",
    "can_skip",
    "choose",
    "flex",
    "fold",
    "reference",
    "skipping",
    "tiles",
]

IMPLS: dict[str, Callable[..., Tensor]] = {"reference": reference, "fold": fold, "tiles": tiles, "flex": flex}


class Choice(NamedTuple):
    """The path that serves, and why."""

    impl: str
    reason: str


def choose(bias: Bias, q: Tensor, impl: str = "auto") -> Choice:
    """The cheapest exact path for this bias, or the one asked for; UserError where it cannot serve.

    Args:
        bias: the layer's bias.
        q: queries; their dtype decides whether folded columns keep their precision.
        impl: `auto`, or a name of IMPLS.
    """
    if impl == "auto":
        if isinstance(bias, NoBias):
            return Choice("fold", "no bias: the stock fused attention as it is")
        if q.size(-2) == 1:
            return Choice("row", "one query: its row of logits is all there is, and no key is copied")
        if not can_fold(bias):
            first = "; the first pass compiles its loops" if compiles(bias, q) else ""
            owner = "the encoding owns its logits" if not bias.additive else "the kernel of the distance has full rank"
            return Choice("tiles", f"{owner}: blocks of query rows, linear memory{first}")
        if not keeps_precision(bias, q.dtype):
            half = str(q.dtype).removeprefix("torch.")
            return Choice("tiles", f"in {half} the gradients of folded columns would be lost")
        first = "; the first backward pass compiles its loop" if compiles_gradients(bias, q) else ""
        return Choice("fold", f"the bias has low rank: extra columns of q and k, then the stock fused attention{first}")
    if impl not in IMPLS:
        raise unknown("impl", impl, ["auto", *IMPLS])
    if impl == "fold" and not can_fold(bias):
        raise UserError("impl 'fold' needs a bias of low rank, and this encoding's is not; use 'auto' or 'tiles'")
    if impl == "flex" and not can_flex(bias):
        raise UserError("impl 'flex' needs a bias that is a function of one pair; use 'auto' or 'tiles'")
    return Choice(impl, "asked for")


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Bias,
    *,
    scale: float,
    impl: str = "auto",
    skip: float | None = None,
    lengths: Tensor | None = None,
) -> Tensor:
    """Causal attention with logits s q.k + b.

    Args:
        q: (B, H, T, d) queries, the last T of S tokens.
        k: (B, H, S, d) keys.
        v: (B, H, S, d) values.
        bias: the layer's bias for these T queries and S keys.
        scale: s.
        impl: `auto`, or a name of IMPLS.
        skip: leave out far keys that together weigh at most this much of 1, see `skipping`; None is exact.
        lengths: (B,) tokens of each row that are there: the others get anything, and nothing under `flex`.

    Returns:
        (B, H, T, d).
    """
    bias = bias.given(q, k)
    if q.is_cpu:
        keep_freed_memory()
    if skip is not None:
        return skipping(q, k, v, bias, scale, skip)
    chosen = choose(bias, q, impl).impl
    if chosen == "row":
        return row(q, k, v, bias, scale)
    if chosen == "flex":
        return flex(q, k, v, bias, scale, lengths=lengths)
    return IMPLS[chosen](q, k, v, bias, scale)
