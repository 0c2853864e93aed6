"""Kernels: the generated source as functions of Triton, and one attention run by them."""

from __future__ import annotations

import linecache
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from extrapo.attention.gpu.formulas import recorded
from extrapo.attention.gpu.gradients import Gradients
from extrapo.attention.gpu.planes import Planes, by_planes, zeros_by_planes
from extrapo.attention.gpu.tuning import INTERPRETED, Blocks, blocks, padded, precision
from extrapo.attention.recorded.kinds import Kind


def source(name: str, trained: str, levels: int) -> str:
    """The kernels of a formula, for people to read as well.

    Args:
        name: what `formulas.name_of` gave.
        trained: of each factor, 1 where it gets gradients and 0 where not.
        levels: windows, one within the other.
    """
    return recorded(name).source(tuple(one == "1" for one in trained), levels)


@lru_cache(maxsize=256)
def functions(name: str, trained: str, levels: int) -> dict[str, Any]:
    """forward, of_queries, of_keys, and of_distances where a line is trained, by name."""
    text, file = source(name, trained, levels), f"<attention {name} {trained} {levels}>"
    # Where Triton finds the source of a function.
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    made: dict[str, Any] = {"__name__": f"extrapo.attention.gpu.generated_{name}_{trained}_{levels}"}
    exec(compile(text, file, "exec"), made)
    return made


def is_interpreted() -> bool:
    """Whether Triton runs kernels on a CPU, by its interpreter (TRITON_INTERPRET=1)."""
    from triton import knobs

    return bool(knobs.runtime.interpret)


class Launch:
    """One attention: what all its kernels are given.

    Args:
        q, k, v: (B, H, T, d), (B, H / G, S, d), (B, H / G, S, e), numbers of a token side by side.
        factors: see `formulas.Factors`.
        name, trained: see `source`.
        scale: s.
        windows: `w,k` of each window, its tokens and its sinks, with a blank between two of them.
    """

    def __init__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        factors: Sequence[Tensor],
        name: str,
        trained: str,
        scale: float,
        windows: str,
    ) -> None:
        seen = [tuple(map(int, one.split(","))) for one in windows.split()]
        self.q, self.k, self.v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v))
        self.functions = functions(name, trained, len(seen))
        self.gradients = Gradients.of(name, trained, factors)
        self.planes: Planes | None = None
        if recorded(name).turned:
            self.q, self.k = by_planes(q), by_planes(k)
            self.planes = Planes.of(self.q, self.k, *factors[-2:])
        self.width, self.values = q.size(-1), v.size(-1)
        self.group = q.size(1) // k.size(1)
        self.texts = q.size(0) * q.size(1)
        strides = [
            (x, *strides_of(x, kind)) for x, kind in zip(self.gradients.factors, recorded(name).kinds, strict=False)
        ]
        limits = [min(w for w, _ in seen), max(k for _, k in seen), *(n for one in seen for n in one)] if seen else []
        self.rest = [q.size(1), self.group, q.size(2), k.size(2), scale, *(one for x in strides for one in x), *limits]
        self.rest += self.planes.arguments if self.planes is not None else []
        self.queries, self.keys, self.scale = q.size(2), k.size(2), scale

    def run(self, kernel: str, tensors: Sequence[Tensor], strided: Sequence[Tensor], sums: Sequence[Tensor]) -> None:
        """One kernel on its tensors, those of which it needs the strides, and what it writes sums to."""
        sizes, queries, keys = self.blocks(kernel), self.queries, self.keys
        programs = {
            "forward": -(-queries // sizes.queries) * self.texts,
            "of_queries": -(-queries // sizes.queries) * self.texts,
            "of_keys": -(-keys // sizes.keys) * self.texts // self.group,
            "of_distances": (-(-keys // sizes.queries) + 1) * self.texts,
        }
        strides = [x.stride(n) for x in strided for n in range(3)]
        grid = (programs[kernel],)
        constants = {
            "M": sizes.queries,
            "N": sizes.keys,
            "WIDTH": self.width,
            "VALUES": self.values,
            "D": padded(self.width),
            "E": padded(self.values),
            "PRECISION": precision(),
        }
        with torch.cuda.device_of(self.q):  # type: ignore[no-untyped-call]
            self.functions[kernel][grid](
                *tensors, *strides, *self.rest, *sums, **constants, num_warps=sizes.warps, num_stages=sizes.stages
            )

    def blocks(self, kernel: str) -> Blocks:
        """Of a kernel."""
        if is_interpreted():
            return INTERPRETED
        major, minor = torch.cuda.get_device_capability(self.q.device)
        turned = self.planes is not None
        return blocks(kernel, max(self.width, self.values), self.q.dtype, 10 * major + minor, turned)

    def forward(self, out: Tensor, lse: Tensor) -> None:
        """Write the output (B, H, T, e) and what is kept of each row, (B, H, T)."""
        of = (self.q, self.k, self.v)
        self.run("forward", (*of, out, lse), (*of, out), ())

    def backward(self, grad: Tensor, out: Tensor, lse: Tensor, dq: Tensor, dk: Tensor, dv: Tensor) -> list[Tensor]:
        """Write the gradients of q, k and v; those of trained factors, see `Gradients.shapes`."""
        of, grad = (self.q, self.k, self.v), grad if grad.stride(-1) == 1 else grad.contiguous()
        blocks = -(-self.queries // self.blocks("of_queries").queries)
        written, *parts = self.gradients.written(lse, blocks, self.keys)

        def sums(*kinds: Kind) -> list[Tensor]:
            return [written[n] for n in self.gradients.of_kinds(*kinds)]

        delta = torch.empty_like(lse)
        # Plane by plane, gradients are added up in memory.
        into_q, into_k = (dq, dk) if self.planes is None else map(zeros_by_planes, (dq, dk))
        self.run(
            "of_queries", (*of, out, grad, lse, delta, into_q), (*of, out, grad, into_q), sums(Kind.ROW, Kind.NUMBER)
        )
        self.run("of_keys", (*of, grad, lse, delta, into_k, dv), (*of, grad, into_k, dv), sums(Kind.COLUMN))
        if self.planes is not None:
            torch.mul(into_q[:, :, : self.queries], self.scale, out=dq)
            torch.mul(into_k[:, :, : self.keys], self.scale, out=dk)
        if lines := sums(Kind.LINE):
            self.run("of_distances", (*of, grad, lse, delta), (*of, grad), lines)
        return self.gradients.summed(written, *parts)


def strides_of(factor: Tensor, kind: Kind) -> list[int]:
    """Of batch, head and token, of a factor (B or 1, H or 1, ...); 0 where there is one for all."""
    token = {Kind.NUMBER: 0, Kind.ROW: 2, Kind.COLUMN: -1, Kind.LINE: -1}[kind]
    batch, head = (0 if factor.size(n) == 1 else factor.stride(n) for n in (0, 1))
    return [batch, head, factor.stride(token) if token else 0]
