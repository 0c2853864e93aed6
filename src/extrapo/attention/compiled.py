"""Compiled bodies of a tile: loops in C++ from the bias's own formula, to its logits, and back through them.

From s q.k to logits an encoding's formula takes several passes over a tile, and its derivative several more, each of
which costs as much as a third of a matrix product. A compiler makes one loop of each, for tiles of any size, once for
all layers that have the same formula. It takes some seconds, and the result stays on disk. Nothing is compiled where
there is no C++ compiler, on a GPU, or with PyTorch's own switch TORCH_COMPILE_DISABLE=1 in the environment.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from extrapo.attention.elementary import DECOMPOSITIONS
from extrapo.encodings.bias import Formula

log = logging.getLogger("extrapo")

#: Logits of an attention, B x H x T x S, from which compiling pays in a run of some minutes.
WORTHWHILE = 2**21

#: Sizes to trace with: each its own, so that none is taken for another, and none is 1.
BATCH, HEADS, ROWS, KEYS, TEXT, PAST, WIDTH, VALUES = 3, 5, 7, 11, 13, 17, 19, 23

#: The C++ wrapper lets other threads run meanwhile; each of them works on a tile of its own. A product and a sum are
#: one instruction, with one rounding: a polynomial takes half the time.
OPTIONS = {
    "cpp_wrapper": True,
    "cpp.threads": 1,
    "cpp.enable_floating_point_contract_flag": "fast",
    "compile_threads": 1,
    "cpp_cache_precompile_headers": False,
}

_lock = threading.Lock()


#: Of each factor, its dtype, and in which of (B, H, R, S') it has as many numbers as the logits, not one for all.
Factors = tuple[tuple[torch.dtype, tuple[bool, ...]], ...]


def worthwhile(device: torch.device, logits: int) -> bool:
    """Whether an attention of so many logits is to be compiled here, if its formula can be."""
    return device.type == "cpu" and logits >= WORTHWHILE and has_compiler()


@contextmanager
def however_short() -> Iterator[None]:
    """Here every formula is compiled that can be: what warms up on a short text finds its loops on a long one."""
    global WORTHWHILE
    before, WORTHWHILE = WORTHWHILE, 0
    try:
        yield
    finally:
        WORTHWHILE = before


@lru_cache(maxsize=1)
def has_compiler() -> bool:
    """Whether a C++ compiler is found, and compiling is not switched off."""
    if os.environ.get("TORCH_COMPILE_DISABLE", "0") == "1":
        return False
    # PyTorch does not quote its own folder where it calls the compiler.
    if " " in torch.__file__:
        return False
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        return bool(get_cpp_compiler())
    except Exception:
        return False


def described(factors: Sequence[Tensor], tile: Sequence[int]) -> Factors:
    """The factors of a tile of shape (B, H, R, S')."""
    return tuple((f.dtype, tuple(a == b for a, b in zip(f.shape, tile, strict=True))) for f in factors)


@lru_cache(maxsize=64)
def logits_loop(formula: Formula, dtype: torch.dtype, factors: Factors) -> Callable[..., Any] | None:
    """(content, out, *factors) -> (): writes the logits of the content (B, H, R, S') to `out`; None if impossible.

    It does not ask which keys are later: only the last ones may be, and the question would cost a fifth of the loop.
    """

    def logits(content: Tensor, out: Tensor, *factors: Tensor) -> tuple[Tensor, ...]:
        out.copy_(formula(content, *factors))
        return ()

    content, *small = examples(dtype, factors)
    return compiled(logits, content, content.clone(), *small)


@lru_cache(maxsize=4)
def exponential_loop(dtype: torch.dtype) -> Callable[..., Any] | None:
    """(logits, shift, out) -> (): writes exp(logits - shift), (B, H, R, S'), with a shift (B, H, R, 1); None if
    impossible. The logits may be overwritten by it.
    """

    def exponential(logits: Tensor, shift: Tensor, out: Tensor) -> tuple[Tensor, ...]:
        out.copy_((logits - shift).exp())
        return ()

    (logits,) = examples(dtype, ())
    return compiled(exponential, logits, logits[..., :1].clone(), logits.clone())


@lru_cache(maxsize=64)
def tile_again(
    formula: Formula, dtype: torch.dtype, factors: Factors, trained: tuple[bool, ...]
) -> Callable[..., Sequence[Tensor]] | None:
    """A tile of the backward pass in one call, its first two products included; None if impossible.

    (q, k, v, grad, scale, kept, towards, row, column, *factors) -> weights p and the gradient ds of the content, both
    (BH, R, S'), and the gradients of the trained factors.

        q, grad      (BH, R, d), queries, and the gradient of the output; parts of (BH, T, d)
        k, v         (BH, S', d), parts of (BH, S, d)
        scale        (), s
        kept         (B, H, R, 1), each row's log-sum-exp
        towards      (B, H, R, 1), the mean of grad . v under p
        row, column  (R, 1) and (S'), where they stand among the keys: what is later weighs nothing
    """

    def again(
        q: Tensor, k: Tensor, v: Tensor, grad: Tensor, scale: Tensor, kept: Tensor, towards: Tensor,
        row: Tensor, column: Tensor, *factors: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        def of_trained(content: Tensor, *leaves: Tensor) -> Tensor:
            rest = iter(leaves)
            return formula(content, *(next(rest) if t else f for f, t in zip(factors, trained, strict=True)))

        tile = *kept.shape[:3], k.size(1)
        content = torch.bmm(q, k.transpose(1, 2)).view(tile) * scale
        leaves = (f for f, t in zip(factors, trained, strict=True) if t)
        logits, pull, *_ = torch.func.vjp(of_trained, content, *leaves)
        p = torch.where(column <= row, (logits - kept).exp(), 0.0)
        dp = torch.bmm(grad, v.transpose(1, 2)).view(tile)
        # The softmax's Jacobian: dS = P * (dP - rowsum(P * dP)).
        found: tuple[Tensor, ...] = pull(p * (dp - towards))
        return p.flatten(0, 1), found[0].flatten(0, 1), *found[1:]

    def part(length: int, width: int, size: int) -> Tensor:
        return torch.rand(BATCH * HEADS, length, width, dtype=dtype)[:, :size]

    content, *small = examples(dtype, factors)
    q, grad = part(TEXT, WIDTH, ROWS), part(TEXT, VALUES, ROWS)
    k, v = part(PAST, WIDTH, KEYS), part(PAST, VALUES, KEYS)
    kept = content[..., :1].clone()
    row, column = torch.rand(ROWS, 1, dtype=dtype), torch.rand(KEYS, dtype=dtype)
    return compiled(again, q, k, v, grad, content.new_ones(()), kept, kept.clone(), row, column, *small)


def examples(dtype: torch.dtype, factors: Factors) -> list[Tensor]:
    """A content to trace with, and its factors."""
    sizes = BATCH, HEADS, ROWS, KEYS
    shapes = [[size if many else 1 for size, many in zip(sizes, full, strict=True)] for _, full in factors]
    small = [torch.rand(shape, dtype=kind) for shape, (kind, _) in zip(shapes, factors, strict=True)]
    return [torch.rand(sizes, dtype=dtype), *small]


def compiled(function: Callable[..., Any], *inputs: Tensor) -> Callable[..., Any] | None:
    """A function of contiguous tensors as C++ that runs on one thread, for any sizes of the dimensions that are not 1.

    None where that fails, which is said: what is compiled is whatever somebody wrote.
    """
    import torch._inductor

    try:
        with _lock, torch.inference_mode(False), torch.no_grad():
            # Without the function's annotations: a graph that has them is not found again on disk.
            trace = make_fx(lambda *x: function(*x), tracing_mode="symbolic", decomposition_table=DECOMPOSITIONS)
            graph = trace(*inputs)
            sizes = [node.meta["val"] for node in graph.graph.nodes if node.op == "placeholder"]
            return torch._inductor.compile(graph, sizes, options=OPTIONS)  # type: ignore[no-any-return]
    except Exception as cause:
        log.warning("a formula cannot be compiled, it is computed step by step: %s", str(cause).split("\n")[0])
        return None
