"""Compiled attention: an elementwise bias's own formula inside attention.cpp, forward and backward.

The forward pass keeps the output and one number of each row; the backward pass makes each tile again (FlashAttention,
Dao et al., 2205.14135). Threads take parts of the work from one list.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from extrapo.attention.backend import StepsAside
from extrapo.attention.cpu.factors import Factors
from extrapo.attention.cpu.library import library
from extrapo.attention.cpu.parallel import parallel_for, worker_count
from extrapo.attention.cpu.source import source
from extrapo.attention.cpu.task import Task, Tensors
from extrapo.attention.recorded.formula import record_formula
from extrapo.attention.recorded.kinds import Kind
from extrapo.attention.recorded.watched import watch
from extrapo.encodings.core.bias import Elementwise
from extrapo.encodings.core.logit import Additive, Affine, Logit
from extrapo.encodings.core.turned import TurnedRows

log = logging.getLogger("extrapo")

#: Parts of the backward pass for each thread, at least: one that others slow down leaves the rest to the other ones.
PARTS = 4


@lru_cache(maxsize=256)
def compiled(
    logit: Logit, dtype: torch.dtype, kinds: tuple[Kind, ...], trained: tuple[bool, ...], turned: bool
) -> ctypes.CDLL:
    """Attention under a formula.

    Raises:
        CompileError: the compiler refused.
    """
    with torch.inference_mode(False), torch.no_grad():
        return library(source(record_formula(logit, dtype, trained), dtype, kinds, trained, turned=turned))


#: Of each formula and dtype, why it cannot be compiled, in a line; None where it has a counterpart in C++.
_refusals: dict[tuple[Logit, torch.dtype], str | None] = {}


def known_refusal(bias: Elementwise, dtype: torch.dtype) -> str | None:
    """Why the formula could not be compiled when that was tried; None where it could, or nobody has tried."""
    return _refusals.get((bias.logit, dtype))


def refusal(bias: Elementwise | TurnedRows, dtype: torch.dtype) -> str | None:
    """Why a bias's formula cannot be compiled, as far as that is known; None where it can."""
    if isinstance(bias, TurnedRows):
        if not bias.host.toeplitz():
            return "the turns are not the same along every diagonal"
        if bias.theta.requires_grad:
            return "the frequencies of planes that turn are trained: loops have the gradients of the turns alone"
        return refusal(bias.host, dtype)
    if bias.toeplitz() and isinstance(bias.logit, Additive | Affine):
        return known_refusal(bias, dtype)
    if not bias.pointwise() and bias.line() is not None:
        return known_refusal(bias, dtype)
    return formula_refusal(bias, dtype)


def formula_refusal(bias: Elementwise, dtype: torch.dtype) -> str | None:
    """The same of a bias whose formula is computed for each pair."""
    if not bias.pointwise():
        return "a logit reads a number of each pair"
    logit = bias.logit
    if (logit, dtype) not in _refusals:
        count = len(bias.factors(slice(0, 1)))
        numbers, all_trained = (Kind.NUMBER,) * count, (True,) * count
        _refusals[logit, dtype] = None
        try:
            # What is recorded is whatever somebody wrote.
            with torch.inference_mode(False), torch.no_grad():
                source(record_formula(logit, dtype, all_trained), dtype, numbers, all_trained)
        except Exception as cause:
            refuse(logit, dtype, cause)
    return _refusals[logit, dtype]


def refuse(logit: Logit, dtype: torch.dtype, cause: Exception) -> str:
    """From now on the formula is left to others, for this reason, which is logged."""
    reason = f"the formula cannot be compiled: {next(iter(str(cause).splitlines()), type(cause).__name__)}"
    _refusals[logit, dtype] = reason
    log.warning(reason)
    return reason


@contextmanager
def compiling(bias: Elementwise | TurnedRows, dtype: torch.dtype) -> Iterator[None]:
    """What fails within is the compiling of a bias's formula, which is then refused.

    Raises:
        StepsAside: it failed.
    """
    try:
        yield
    except Exception as cause:
        host = bias.host if isinstance(bias, TurnedRows) else bias
        raise StepsAside(refuse(host.logit, dtype, cause)) from cause


def functions(bias: Elementwise | TurnedRows, factors: Factors, dtype: torch.dtype) -> ctypes.CDLL:
    """Those of a bias with these factors.

    Raises:
        StepsAside: they cannot be compiled.
    """
    with compiling(bias, dtype):
        return compiled(factors.logit, dtype, factors.kinds, factors.trained, factors.turns is not None)


def compiled_attention(q: Tensor, k: Tensor, v: Tensor, bias: Elementwise | TurnedRows, scale: float) -> Tensor:
    """softmax(logits) v; shapes as Backend."""
    # Under autocast q, k, v arrive in half precision; inside, every dtype is chosen by hand.
    with torch.autocast("cpu", enabled=False):
        return CompiledAttention.apply(q, k, v, bias, scale, *bias.tensors())  # type: ignore[no-any-return, no-untyped-call]


class CompiledAttention(torch.autograd.Function):
    """See `compiled_attention`."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Elementwise | TurnedRows, scale: float, *tensors: Tensor
    ) -> Tensor:
        dtype = torch.promote_types(q.dtype, torch.float32)
        factors, _ = with_leaves(bias, tensors, ctx.needs_input_grad[5:], dtype)
        (batch, heads, queries, _), width = q.shape, v.size(-1)
        out = tokens_first(batch, heads, queries, width, dtype=dtype)
        lse = torch.empty(batch, heads, queries, dtype=dtype)
        memory = Tensors(readable(q, dtype), readable(k, dtype), readable(v, dtype), out, lse)
        run(functions(bias, factors, dtype), "attention_forward", Task(factors, memory, scale, bias.visibility()))
        if isinstance(bias, TurnedRows):
            watch(q, k, v, bias, scale, bias.watched_rows())
        ctx.save_for_backward(q, k, v, out, lse, *tensors)
        ctx.bias, ctx.scale = bias.rebuilt([t.detach() for t in tensors]), scale
        return out.to(v.dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse, *tensors = ctx.saved_tensors
        dtype = out.dtype
        factors, leaves = with_leaves(ctx.bias, tensors, ctx.needs_input_grad[5:], dtype)
        (batch, heads, queries, width), (keys, values) = q.shape, v.shape[2:]
        groups = min(-(-PARTS * torch.get_num_threads() // max(1, batch * heads)), queries // 128 + 1)
        dq = tokens_first(batch, heads, queries, width, dtype=dtype)
        dk, dv = (tokens_first(groups * batch, heads, keys, n, dtype=dtype).zero_() for n in (width, values))
        wide = [readable(x, dtype) for x in (q, k, v)]
        memory = Tensors(wide[0], wide[1], wide[2], out, lse, readable(grad_outputs[0], dtype), dq, dk, dv)
        task = Task(factors, memory, ctx.scale, ctx.bias.visibility(), groups)
        run(functions(ctx.bias, factors, dtype), "attention_backward", task)
        if groups > 1:
            dk, dv = (x.view(groups, batch, *x.shape[1:]).sum(0) for x in (dk, dv))
        of_leaves = factors.gradients(task.received, task.turns, leaves)
        return *(g.to(x.dtype) for g, x in zip((dq, dk, dv), (q, k, v), strict=True)), None, None, *of_leaves


def with_leaves(
    bias: Elementwise | TurnedRows, tensors: Sequence[Tensor], wanted: Sequence[bool], dtype: torch.dtype
) -> tuple[Factors, list[Tensor]]:
    """A bias's factors as a graph of leaves in place of its tensors."""
    leaves = [t.detach().requires_grad_(w) for t, w in zip(tensors, wanted, strict=True)]
    with torch.set_grad_enabled(any(wanted)):
        return Factors.of(bias.rebuilt(leaves), dtype), leaves


def readable(x: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, H, N, width) with the numbers of a token side by side, one token behind the other; a copy where they are not
    so, or of another dtype.
    """
    x = x.detach().to(dtype)
    # BLAS takes no matrix whose rows overlap, such as one row for all: the gradient of a mean over tokens.
    return x if x.stride(-1) == 1 and x.stride(-2) >= x.size(-1) else x.contiguous()


def tokens_first(batch: int, heads: int, length: int, width: int, *, dtype: torch.dtype) -> Tensor:
    """(B, H, N, width), in memory as a model's projections read it: all heads of a token side by side."""
    return torch.empty(batch, length, heads, width, dtype=dtype).transpose(1, 2)


def run(functions: ctypes.CDLL, name: str, task: Task) -> None:
    """All parts of a task."""
    function = getattr(functions, name)
    parallel_for(lambda worker: function(task.address), worker_count(task.parts))
