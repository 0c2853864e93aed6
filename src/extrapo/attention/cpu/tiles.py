"""Tiles: blocks of query rows over the keys before them, recomputed in the backward pass. Any bias, linear memory.

Exact attention, a tile of R rows at a time, so that nothing of size T x T is ever kept and the half above the diagonal
is never computed. The forward pass keeps the output and one number of each row; the backward pass makes each tile again
(as FlashAttention does, Dao et al., 2205.14135) and sends the gradient of its logits into the bias through a small
autograd graph of that tile alone: whatever an encoding writes in `tile` or `score` is trained, and no encoding writes a
derivative.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from extrapo.attention.cpu.compiler import worthwhile
from extrapo.attention.scores import TiledScores
from extrapo.attention.cpu.buffers import scratch
from extrapo.attention.tiling import rows_per_tile, spans
from extrapo.attention.cpu.tile_logits import BiasTiles, Into
from extrapo.attention.cpu.tile_ways import bias_tiles
from extrapo.attention.cpu.parallel import chains, share, share_chains, worker_count
from extrapo.attention.cpu.workspace import Workspace
from extrapo.encodings.core.bias import Bias


def rows_of(x: Tensor) -> Tensor:
    """(B, H, N, d) -> (BH, N, d), detached, in float32 at least: half precision is how q, k, v are kept, no more.

    Contiguous: compiled bodies take parts of whole rows, and a model's projections leave the tokens before the heads.
    """
    return x.detach().to(torch.promote_types(x.dtype, torch.float32)).flatten(0, 1).contiguous()


class TiledAttention(torch.autograd.Function):
    """softmax(f(s q.k)) v for a bias that is added, or whose formula f makes each logit from one number of s q.k."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Bias, scale: float, plan: Plan, *tensors: Tensor
    ) -> Tensor:
        q3, k3, v3 = rows_of(q), rows_of(k), rows_of(v)
        shared = plan.tiles(bias, [tensor.detach() for tensor in tensors], q, k, backward=False)
        out = v3.new_empty(*q3.shape[:-1], v3.size(-1))
        kept = q3.new_empty(*q3.shape[:-1], 1)
        tiles = spans(q3.size(1), shared.rows)[::-1]
        workers = worker_count(q.device, len(tiles))
        logits = [shared.worker(shared) for _ in range(workers)]
        spaces = [Workspace(q3, k3, v3, scale, q.size(1), shared.rows, shared.places, n) for n in range(workers)]
        # Rows do not depend on one another: who is free takes the longest tile that is left.
        queue = iter(tiles)

        def work(worker: int) -> None:
            for rows in queue:
                kept[:, rows] = logits[worker].attended(spaces[worker], out[:, rows], rows)

        share(work, workers)
        ctx.save_for_backward(q, k, v, out, kept, *tensors)
        ctx.bias, ctx.scale, ctx.plan = bias.rebuilt([tensor.detach() for tensor in tensors]), scale, plan
        return out.view(*q.shape[:-1], v.size(-1)).to(v.dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, kept, *tensors = ctx.saved_tensors
        wanted = ctx.needs_input_grad[-len(tensors) :] if tensors else ()
        leaves = [t.detach().requires_grad_(w) for t, w in zip(tensors, wanted, strict=True)]
        (dq, dk, dv), rest = gradients(q, k, v, out, kept, grad_outputs[0], ctx.bias, leaves, ctx.scale, ctx.plan)
        return dq, dk, dv, None, None, None, *rest


def gradients(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    kept: Tensor,
    grad: Tensor,
    bias: Bias,
    tensors: Sequence[Tensor],
    scale: float,
    plan: Plan,
) -> tuple[list[Tensor], list[Tensor | None]]:
    """The gradients of q, k and v, and of the bias's tensors, None for those that require none.

    Args:
        q, k, v: as the forward pass had them.
        out: (BH, T, d), its output in float32 at least.
        kept: (BH, T, 1), each row's log-sum-exp.
        grad: (B, H, T, d), the gradient of the output.
        bias: the bias.
        tensors: what it is made of, leaves of a graph.
        scale: s.
        plan: how to cut and to make the tiles.
    """
    q3, k3, v3, grad = rows_of(q), rows_of(k), rows_of(v), rows_of(grad)
    shared = plan.tiles(bias, tensors, q, k, backward=True)
    dq = torch.empty_like(q3)
    tiles = spans(q3.size(1), shared.rows)[::-1]
    workers = worker_count(q.device, len(tiles))
    spaces = [Workspace(q3, k3, v3, scale, q.size(1), shared.rows, shared.places, n) for n in range(workers)]
    parts = chains(tiles, workers)
    takers = [shared.worker(shared) for _ in parts]
    # Transposed, (BH, d, S): see `tile_back`.
    shapes = [(x.size(0), x.size(2), x.size(1)) for x in (k3, v3)]
    sums = [[scratch(q3, shape, n, f"sum {i}") for i, shape in enumerate(shapes)] for n in range(1, len(parts))]
    sums.insert(0, [q3.new_empty(shape) for shape in shapes])
    for total in chain.from_iterable(sums):
        total.zero_()

    def work(worker: int, part: int, rows: slice) -> None:
        space, (dk, dv), received = spaces[worker], sums[part], grad[:, rows]
        past = space.past(rows)
        towards = (received * out[:, rows]).sum(-1, keepdim=True)
        into = Into(dq[:, rows], dk[..., past], dv[..., past])
        takers[part].back(space, kept[:, rows].contiguous(), received, towards, rows, into)

    share_chains(work, parts, workers)
    for first, *rest in zip(*sums, strict=True):
        for other in rest:
            first += other
    totals = (x.transpose(1, 2) for x in sums[0])
    found = [g.reshape(x.shape).to(x.dtype) for g, x in zip((dq, *totals), (q, k, v), strict=True)]
    return found, shared.gradients(takers)


@dataclass(frozen=True)
class Plan:
    """How an attention is cut into tiles, and made.

    Args:
        rows: query rows of a full tile, only the first may have fewer; by shape and way where None.
        compiled: compile what can be.
    """

    rows: int | None
    compiled: bool

    def tiles(self, bias: Bias, tensors: Sequence[Tensor], q: Tensor, k: Tensor, *, backward: bool) -> BiasTiles:
        """The tiles of a bias over `tensors`."""
        dtype = torch.promote_types(q.dtype, torch.float32)
        whole = (*q.shape[:3], k.size(2))
        return bias_tiles(bias, tensors, backward, whole=whole, rows=self.rows, dtype=dtype, compiled=self.compiled)


def compiles(bias: Bias, q: Tensor) -> bool:
    """Whether loops are compiled for the tiles of a bias, once q and k are known."""
    _, _, queries, keys = bias.shape
    by_number = bias.additive or bias.formula() is not None
    return by_number and worthwhile(q.device, q.size(0) * q.size(1) * queries * keys)


def tiles(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Bias,
    scale: float,
    *,
    rows: int | None = None,
    compiled: bool | None = None,
) -> Tensor:
    """Attention by tiles; shapes as `attend`.

    Args:
        rows: query rows of a tile; chosen by shape where None.
        compiled: compile what can be: the exponentials, and the bias's formula, where it has one; None for where it
            pays.
    """
    bias = bias.given(q, k)
    if compiled is None:
        compiled = compiles(bias, q)
    by_number = bias.additive or bias.formula() is not None
    # Under autocast q, k, v arrive in half precision; inside, every dtype is chosen by hand.
    with torch.autocast(q.device.type, enabled=False):
        if by_number:
            return TiledAttention.apply(q, k, v, bias, scale, Plan(rows, compiled), *bias.tensors())  # type: ignore[no-any-return, no-untyped-call]
        size = rows or rows_per_tile(q.size(0) * q.size(1), k.size(2), q.size(2))
        return TiledScores.apply(q, k, v, bias, scale, size, *bias.tensors())  # type: ignore[no-any-return, no-untyped-call]
