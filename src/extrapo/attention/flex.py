"""Flex: a fused kernel that a compiler makes of the bias's own formula (FlexAttention, Dong et al., 2412.05496).

On a GPU for training and evaluation, on a CPU for evaluation alone. The first call of a shape compiles, which takes
half a minute; other values do not. `auto` takes it on a GPU, in evaluation: its backward pass adds what a gate or a
parameter gets to memory pair by pair, in no order. Blocks above the diagonal or beyond a window are never visited:
PyTorch's own `create_block_mask` would look at every pair for them, here nothing is larger than the table of blocks.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import lru_cache
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from extrapo.attention.backend import Backend, StepsAside, Verdict
from extrapo.attention.recorded.private import constant, uncompiled
from extrapo.encodings.core.bias import Bias, Elementwise, NoBias
from extrapo.encodings.core.visibility import Visibility

#: Shapes of a process, and more.
MANY = 2**16

#: Queries and keys of a block: what FlexAttention expects unless it is told otherwise.
SIZE = 128


class Flex(Backend):
    """The formula as FlexAttention's score_mod, the window as its block mask."""

    name = "flex"
    compiles = True

    def __init__(self) -> None:
        #: what PyTorch's compiler had against a bias, by dtype and width.
        self._refused: dict[tuple[Any, ...], str] = {}

    def serves(self, bias: Bias, q: Tensor, k: Tensor) -> Verdict:
        if not (isinstance(bias, Elementwise) and bias.pointwise()):
            return Verdict(False, "a logit is no function of its score and of numbers per query, key and head")
        if q.device.type == "cpu":
            if is_trained(bias, q, k):
                return Verdict(False, "FlexAttention has no backward pass on a CPU")
        elif not has_triton():
            return Verdict(False, "triton is not installed (pip install triton)")
        elif q.dtype.itemsize > 4 or q.size(-1) < 16:
            return Verdict(False, "on a GPU it is for heads of at least 16 numbers of at most 32 bits")
        if why := self._refused.get((type(bias), q.dtype, q.size(-1))):
            return Verdict(False, why)
        return Verdict(True, "a fused kernel that a compiler makes of the bias's formula")

    def pays(self, bias: Bias, q: Tensor, k: Tensor) -> Verdict:
        if q.device.type not in ("cuda", "meta"):
            return Verdict(False, "a shape takes half a minute to compile")
        if is_trained(bias, q, k):
            return Verdict(False, "gradients would be added to memory pair by pair, in no order")
        return Verdict(True, "nothing is trained")

    @uncompiled
    def __call__(self, q: Tensor, k: Tensor, v: Tensor, bias: Bias, *, scale: float) -> Tensor:
        assert isinstance(bias, Elementwise)
        mask = block_mask(q.size(-2), k.size(-2), bias.visibility(), q.device)
        score_mod = None if isinstance(bias, NoBias) else score_modification(bias)
        try:
            out: Tensor = compiled()(q, k, v, score_mod=score_mod, block_mask=mask, scale=scale)
        except RuntimeError as cause:  # as all are that PyTorch's compiler raises
            if isinstance(cause, torch.OutOfMemoryError):
                raise
            why = f"PyTorch's compiler has no kernel of it: {' '.join(str(cause).splitlines()[:1])}"
            self._refused[type(bias), q.dtype, q.size(-1)] = why
            raise StepsAside(why) from cause
        return out


@constant
def has_triton() -> bool:
    """Whether there is a Triton, which PyTorch's compiler makes the kernels of a GPU with."""
    return importlib.util.find_spec("triton") is not None


def is_trained(bias: Bias, q: Tensor, k: Tensor) -> bool:
    """Whether there are gradients to compute."""
    return torch.is_grad_enabled() and any(t.requires_grad for t in (q, k, *bias.tensors()))


@lru_cache(maxsize=1)
def compiled() -> Callable[..., Any]:
    """FlexAttention, compiled for each shape at its first call: beyond a limit PyTorch would make the whole matrix."""
    unlimited: dict[str, Any] = (
        {"recompile_limit": MANY} if "recompile_limit" in signature(torch.compile).parameters else {}
    )
    return torch.compile(flex_attention, dynamic=False, **unlimited)


def score_modification(bias: Elementwise) -> Callable[..., Tensor]:
    """logit(score, *factors) of one pair, by (batch, head, query, key)."""
    bias = bias.whole_text()
    # FlexAttention loses the gradients of a tensor that is a view, without a word.
    factors = tuple(x.clone() if x.requires_grad else x for x in bias.factors(slice(0, bias.shape[2])))
    logit = bias.logit

    def at(factor: Tensor, *place: Tensor) -> Tensor:
        # What is one for all is read at 0.
        return factor[tuple(n if size > 1 else 0 * n for n, size in zip(place, factor.shape, strict=True))]

    def score_mod(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return logit(score, *(at(factor, b, h, i, j) for factor in factors))

    return score_mod


@lru_cache(maxsize=16)
def block_mask(queries: int, keys: int, visibility: Visibility | None, device: torch.device) -> BlockMask:
    """The blocks of T queries, the last of S tokens, in which any query sees a key."""
    past = keys - queries
    query, key = (torch.arange(0, n, SIZE, device=device) for n in (queries, keys))
    first, last = (query + past).unsqueeze(-1), (query + SIZE - 1).clamp_max(queries - 1).add(past).unsqueeze(-1)
    ends = (key + SIZE - 1).clamp_max(keys - 1)
    # What is not a full square is never taken for one that is seen as a whole.
    square = (query + SIZE <= queries).unsqueeze(-1) & (key + SIZE <= keys)
    some, whole = key <= last, (ends <= first) & square
    if visibility is not None:
        any_seen, all_seen = visibility.of_blocks(first, last, key, ends)
        some, whole = some & any_seen, whole & all_seen

    def seen(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        causal = i + past >= j
        return causal if visibility is None else causal & visibility.sees(i + past, j)

    return BlockMask.from_kv_blocks(
        *listed(some & ~whole), *listed(whole), BLOCK_SIZE=SIZE, mask_mod=seen, seq_lengths=(queries, keys)
    )


def listed(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """(rows, columns) bool -> how many of each row are True, and which, these first: (1, 1, rows, ...)."""
    order = blocks.to(torch.int8).argsort(dim=-1, descending=True, stable=True)
    return blocks.sum(-1, dtype=torch.int32)[None, None], order.to(torch.int32)[None, None]
