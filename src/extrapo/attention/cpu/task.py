"""Task: one attention as attention.cpp reads it: where tensors lie in memory, and what is left to do."""

from __future__ import annotations

import ctypes
import math
from ctypes import Structure, byref, c_double, c_long, c_void_p
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from extrapo.attention.cpu.factors import Factors
from extrapo.attention.cpu.source import Kind
from extrapo.encodings.core.visibility import Visibility

#: Query rows of a tile, as there.
ROWS = 64

#: Numbers that a tile may read of a line behind the last key's: of rows above the last, and of whole vectors.
BEYOND = 2 * ROWS + 32

PRODUCTS = {torch.float32: "sgemm_", torch.float64: "dgemm_"}


class Tokens(Structure):
    """Numbers of each token, (B, H, N, width), those of one token side by side."""

    _fields_ = [("data", c_void_p), ("batch", c_long), ("head", c_long), ("token", c_long)]

    @classmethod
    def of(cls, x: Tensor | None) -> Tokens:
        return cls() if x is None else cls(x.data_ptr(), *x.stride()[:3])


class Factor(Structure):
    """Numbers of a factor."""

    _fields_ = [("data", c_void_p), ("batch", c_long), ("head", c_long)]

    @classmethod
    def of(cls, x: Tensor) -> Factor:
        batch, head = (0 if x.size(n) == 1 else x.stride(n) for n in (0, 1))
        return cls(x.data_ptr(), batch, head)


@lru_cache
def layout(factors: int) -> type[Structure]:
    """The structure for so many factors."""
    tokens = [(name, Tokens) for name in ("q", "k", "v", "out", "grad", "dq", "dk", "dv")]
    sizes = ("batch", "heads", "queries", "keys", "width", "values", "window", "sinks", "groups")
    places = [("lse", c_void_p), ("factors", Factor * max(1, factors)), ("received", c_void_p * max(1, factors))]
    turned = [(name, c_void_p) for name in ("cos", "sin", "theta", "turns")]
    strides = ("group_keys", "group_values", "line_head", "line_plane", "planes_each")
    numbers = [("scale", c_double), *((name, c_long) for name in (*sizes, *strides, "next"))]

    class Layout(Structure):
        _fields_ = [*tokens, *places, *turned, ("product", c_void_p), *numbers]

    return Layout


@lru_cache
def product(dtype: torch.dtype) -> int | None:
    """Where the product of matrices of the BLAS lies that PyTorch computes with; None where that has no such name."""
    folder = Path(torch.__file__).parent / "lib"
    for name in ("libtorch_cpu.so", "libtorch_cpu.dylib"):
        try:
            function = getattr(ctypes.CDLL(str(folder / name)), PRODUCTS[dtype])
        except (OSError, AttributeError):
            continue
        return ctypes.cast(function, c_void_p).value
    return None


class Turned(NamedTuple):
    """What scores that turn with the distance read: a line of distances for each head and frequency, as the last query
    has them, with zeros behind its S keys.
    """

    cos: Tensor  # (H, F, N)
    sin: Tensor
    theta: Tensor  # (F,)

    @classmethod
    def of(cls, turns: Tensor, theta: Tensor, dtype: torch.dtype) -> Turned:
        """Of turns (1, H, 1, S) in double precision, reduced to one round in it, for factors of `dtype`."""
        phase = torch.remainder(
            turns.detach().view(turns.size(1), 1, -1) * theta.to(turns.dtype).view(-1, 1), math.tau
        ).to(dtype)
        # An odd number of cache lines: a plane's numbers do not push another one's out of the cache.
        length = (phase.size(-1) + BEYOND) // 32 * 32 + 16
        return cls(*(F.pad(x, (0, length - x.size(-1))) for x in (phase.cos(), phase.sin())), theta.to(dtype))


class Task:
    """What all threads read and write.

    Args:
        factors: of the bias.
        q: (B, H, T, d) queries, the last of S tokens.
        k, v: (B, H, S, d) and (B, H, S, e).
        scale: s.
        visibility: a window, and sinks; None for all.
        out: (B, H, T, e), the output.
        lse: (B, H, T), each row's log-sum-exp.
        grad: (B, H, T, e), the gradient of the output; in the backward pass, as all that follow.
        dq: (B, H, T, d), where that of q goes.
        dk, dv: (G B, H, S, d or e), zeros, where those of k and v go, of each group of rows.
        groups: G.
    """

    def __init__(
        self,
        factors: Factors,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        scale: float,
        visibility: Visibility | None,
        *,
        out: Tensor,
        lse: Tensor,
        grad: Tensor | None = None,
        dq: Tensor | None = None,
        dk: Tensor | None = None,
        dv: Tensor | None = None,
        groups: int = 1,
    ) -> None:
        (batch, heads, queries, width), (keys, values) = q.shape, v.shape[2:]
        # What lies in memory must stay there for as long as this does.
        self.kept = [factors, q, k, v, out, lse, grad, dq, dk, dv]
        self.received: list[Tensor] = []
        task: Any = layout(len(factors.numbers))()
        for name, x in {"q": q, "k": k, "v": v, "out": out, "grad": grad, "dq": dq, "dk": dk, "dv": dv}.items():
            setattr(task, name, Tokens.of(x))
        for n, (x, kind, trained) in enumerate(zip(factors.numbers, factors.kinds, factors.trained, strict=True)):
            task.factors[n] = Factor.of(x)
            if trained and grad is not None:
                size = {Kind.NUMBER: 1, Kind.ROW: queries}.get(kind, keys)
                self.received.append(torch.zeros(groups, batch, heads, size, dtype=out.dtype))
                task.received[n] = self.received[-1].data_ptr()
        task.lse, task.product, task.scale = lse.data_ptr(), product(out.dtype), scale
        task.batch, task.heads, task.queries, task.keys, task.width, task.values = (
            batch,
            heads,
            queries,
            keys,
            width,
            values,
        )
        task.window = keys if visibility is None else visibility.window
        task.sinks = 0 if visibility is None else visibility.sinks
        task.groups = groups
        if dk is not None and dv is not None:
            task.group_keys, task.group_values = batch * dk.stride(0), batch * dv.stride(0)
        self.turns: Tensor | None = None
        if factors.turns is not None and factors.theta is not None:
            turned = Turned.of(factors.turns, factors.theta, out.dtype)
            self.kept.append(turned)
            task.cos, task.sin, task.theta = (x.data_ptr() for x in turned)
            task.line_head, task.line_plane, _ = turned.cos.stride()
            task.planes_each = width // 2 // turned.theta.numel()
            if factors.turns.requires_grad and grad is not None:
                self.turns = torch.zeros(groups, batch, heads, keys, dtype=out.dtype)
                task.turns = self.turns.data_ptr()
        self.task = task
        blocks = -(-queries // ROWS)
        #: of the forward pass, or of the backward pass.
        self.parts = batch * heads * (blocks if grad is None else groups)

    @property
    def address(self) -> Any:
        """What the functions take."""
        return byref(self.task)
