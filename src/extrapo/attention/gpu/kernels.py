"""Kernels: the generated source as functions of Triton, and one attention run by them."""

from __future__ import annotations

import linecache
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from extrapo.attention.gpu.formulas import recorded
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
    """forward, of_queries and of_keys, by name."""
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
    """One attention: what all three kernels are given.

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
        self.kinds, self.trained = recorded(name).kinds, [n for n, one in enumerate(trained) if one == "1"]
        self.width, self.values = q.size(-1), v.size(-1)
        self.group = q.size(1) // k.size(1)
        self.texts = q.size(0) * q.size(1)
        strides = [(x, *(0 if x.size(n) == 1 else x.stride(n) for n in (0, 1))) for x in factors]
        limits = [min(w for w, _ in seen), max(k for _, k in seen), *(n for one in seen for n in one)] if seen else []
        self.rest = [q.size(1), self.group, q.size(2), k.size(2), scale, *(one for x in strides for one in x), *limits]

    def run(self, kernel: str, tensors: Sequence[Tensor], strided: Sequence[Tensor], sums: Sequence[Tensor]) -> None:
        """One kernel on its tensors, those of which it needs the strides, and what it writes sums to."""
        sizes, by_keys = self.blocks(kernel), kernel == "of_keys"
        count = -(-self.k.size(2) // sizes.keys) if by_keys else -(-self.q.size(2) // sizes.queries)
        strides = [x.stride(n) for x in strided for n in range(3)]
        grid = (count * (self.texts // self.group if by_keys else self.texts),)
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
        generation, _ = torch.cuda.get_device_capability(self.q.device)
        return blocks(kernel, max(self.width, self.values), self.q.dtype, generation)

    def forward(self, out: Tensor, lse: Tensor) -> None:
        """Write the output (B, H, T, e) and what is kept of each row, (B, H, T)."""
        of = (self.q, self.k, self.v)
        self.run("forward", (*of, out, lse), (*of, out), ())

    def backward(self, grad: Tensor, out: Tensor, lse: Tensor, dq: Tensor, dk: Tensor, dv: Tensor) -> list[Tensor]:
        """Write the gradients of q, k and v; those of trained factors, (B, H, n) each, in their order."""
        of, grad = (self.q, self.k, self.v), grad if grad.stride(-1) == 1 else grad.contiguous()
        batch, heads, queries, _ = self.q.shape
        blocks_of_rows = -(-queries // self.blocks("of_queries").queries)
        sizes = {Kind.NUMBER: blocks_of_rows, Kind.ROW: queries, Kind.COLUMN: self.k.size(2)}
        sums = {n: lse.new_empty(batch, heads, sizes[self.kinds[n]]) for n in self.trained}
        by_key = [x for n, x in sums.items() if self.kinds[n] == Kind.COLUMN]
        by_row = [x for n, x in sums.items() if self.kinds[n] != Kind.COLUMN]
        delta = torch.empty_like(lse)
        self.run("of_queries", (*of, out, grad, lse, delta, dq), (*of, out, grad, dq), by_row)
        self.run("of_keys", (*of, grad, lse, delta, dk, dv), (*of, grad, dk, dv), by_key)
        return [x.sum(-1, keepdim=True) if self.kinds[n] == Kind.NUMBER else x for n, x in sums.items()]
