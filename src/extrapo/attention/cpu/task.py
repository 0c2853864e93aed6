"""Task: one attention as attention.cpp reads it: where tensors lie in memory, and what is left to do."""

from __future__ import annotations

from ctypes import Structure, byref, c_double, c_long, c_void_p
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from extrapo.attention.cpu.factors import Factors
from extrapo.attention.cpu.private import product
from extrapo.attention.recorded.kinds import Kind
from extrapo.encodings.core.turned import cosines
from extrapo.encodings.core.visibility import Visibility

#: Query rows of a tile, as there.
ROWS = 64

#: Numbers that a tile may read of a line behind the last key's: of rows above the last, and of whole vectors.
BEYOND = 2 * ROWS + 32


class Tokens(Structure):
    """Numbers of each token, (B, H, N, width), those of one token side by side."""

    _fields_ = [("data", c_void_p), ("batch", c_long), ("head", c_long), ("token", c_long)]

    @classmethod
    def of(cls, x: Tensor) -> Tokens:
        return cls(x.data_ptr(), *x.stride()[:3])


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
    count = max(1, factors)
    tokens = ("q", "k", "v", "out", "grad", "dq", "dk", "dv")
    sizes = ("batch", "heads", "queries", "keys", "width", "values", "window", "sinks", "groups")
    strides = ("group_keys", "group_values", "line_head", "line_plane", "planes_each")
    fields: list[Any] = [(name, Tokens) for name in tokens]
    fields += [("lse", c_void_p), ("factors", Factor * count), ("received", c_void_p * count)]
    fields += [(name, c_void_p) for name in ("cos", "sin", "theta", "turns", "product")]
    fields += [("scale", c_double), *((name, c_long) for name in (*sizes, *strides, "next"))]

    class Layout(Structure):
        _fields_ = fields

    return Layout


class Turned(NamedTuple):
    """What scores that turn with the distance read: a line of distances for each head and frequency, as the last query
    has them, with zeros behind its S keys.
    """

    cos: Tensor  # (H, F, N)
    sin: Tensor
    theta: Tensor  # (F,)

    @classmethod
    def of(cls, turns: Tensor, theta: Tensor, dtype: torch.dtype) -> Turned:
        """Of turns (1, H, 1, S) in double precision, for factors of `dtype`."""
        # An odd number of cache lines: a plane's numbers do not push another one's out of the cache.
        length = (turns.size(-1) + BEYOND) // 32 * 32 + 16
        cos, sin = (F.pad(x, (0, length - x.size(-1))) for x in cosines(turns, theta, dtype))
        return cls(cos, sin, theta.to(dtype))


class Tensors(NamedTuple):
    """What an attention reads and writes, in memory; the last four in the backward pass."""

    q: Tensor  # (B, H, T, d), the last of S tokens
    k: Tensor  # (B, H, S, d)
    v: Tensor  # (B, H, S, e)
    out: Tensor  # (B, H, T, e)
    lse: Tensor  # (B, H, T), each row's log-sum-exp
    grad: Tensor | None = None  # (B, H, T, e), that of the output
    dq: Tensor | None = None  # (B, H, T, d)
    dk: Tensor | None = None  # (G B, H, S, d), zeros: that of k, of each group of rows
    dv: Tensor | None = None  # (G B, H, S, e)


class Task:
    """What all threads read and write.

    Args:
        factors: of the bias.
        tensors: see there.
        scale: s.
        visibility: a window, and sinks; None for all.
        groups: G.
    """

    def __init__(
        self, factors: Factors, tensors: Tensors, scale: float, visibility: Visibility | None, groups: int = 1
    ) -> None:
        (batch, heads, queries, width), (keys, values) = tensors.q.shape, tensors.v.shape[2:]
        dtype, trains = tensors.out.dtype, tensors.grad is not None
        # What lies in memory must stay there for as long as this does.
        self.kept: list[Any] = [factors, tensors]
        #: the gradients of trained factors, (G, B, H, n), and of the turns, (G, B, H, S).
        self.received: list[Tensor] = []
        self.turns: Tensor | None = None
        sizes = {"batch": batch, "heads": heads, "queries": queries, "keys": keys, "width": width, "values": values}
        seen = Visibility(keys) if visibility is None else visibility
        task: Any = layout(len(factors.numbers))(window=seen.window, sinks=seen.sinks, groups=groups, **sizes)
        task.lse, task.product, task.scale = tensors.lse.data_ptr(), product(dtype), scale
        task.q, task.k, task.v, task.out = (Tokens.of(x) for x in (tensors.q, tensors.k, tensors.v, tensors.out))
        for name in ("grad", "dq", "dk", "dv") if trains else ():
            setattr(task, name, Tokens.of(getattr(tensors, name)))
        if tensors.dk is not None and tensors.dv is not None:
            task.group_keys, task.group_values = (batch * x.stride(0) for x in (tensors.dk, tensors.dv))

        def sums(length: int, dtype: torch.dtype = torch.float64) -> Tensor:
            return torch.zeros(groups, batch, heads, length, dtype=dtype)

        for n, (x, kind, trained) in enumerate(zip(factors.numbers, factors.kinds, factors.trained, strict=True)):
            task.factors[n] = Factor.of(x)
            if trained and trains:
                self.received.append(sums({Kind.NUMBER: 1, Kind.ROW: queries}.get(kind, keys)))
                task.received[n] = self.received[-1].data_ptr()
        if factors.turns is not None and factors.theta is not None:
            turned = Turned.of(factors.turns, factors.theta, dtype)
            self.kept.append(turned)
            task.cos, task.sin, task.theta = (x.data_ptr() for x in turned)
            task.line_head, task.line_plane, _ = turned.cos.stride()
            task.planes_each = width // 2 // turned.theta.numel()
            if factors.turns.requires_grad and trains:
                self.turns = sums(keys, dtype)
                task.turns = self.turns.data_ptr()
        self.task = task
        blocks = -(-queries // ROWS)
        #: of the forward pass, or of the backward pass.
        self.parts = batch * heads * (groups if trains else blocks)

    @property
    def address(self) -> Any:
        """What the functions take."""
        return byref(self.task)
