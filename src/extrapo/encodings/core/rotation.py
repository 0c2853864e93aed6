"""Rotations of pairs of dimensions by an angle per plane: the arithmetic under RoPE (2104.09864) and its kin."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from extrapo.encodings.core.positions import wide

#: which two dimensions make plane c: (c, c + d/2) or (2c, 2c + 1). Equal up to a permutation of the head's width.
Layout = Literal["half", "interleaved"]


def accumulated(steps: Tensor, start: Tensor | None = None) -> Tensor:
    """Sums of angles over the tokens s <= t, (..., T, planes), in the wide dtype.

    Args:
        steps: (..., T, planes) what each token adds.
        start: (..., 1, planes) the sum at the token before these, None at the first.
    """
    total = steps.to(wide(steps)).cumsum(-2)
    return total if start is None else total + start


def pairs(x: Tensor, layout: Layout = "half") -> tuple[Tensor, Tensor]:
    """The first and the second coordinates of all planes of `x` (..., 2 planes): (..., planes) each."""
    if layout == "half":
        a, b = x.chunk(2, dim=-1)
        return a, b
    return x[..., 0::2], x[..., 1::2]


def joined(a: Tensor, b: Tensor, layout: Layout = "half") -> Tensor:
    """The inverse of `pairs`; `joined(s, s)` spreads one number per plane over its two dimensions."""
    return torch.cat([a, b], dim=-1) if layout == "half" else torch.stack([a, b], dim=-1).flatten(-2)


def rotate(x: Tensor, angles: Tensor, layout: Layout = "half") -> Tensor:
    """Turn plane c of `x` (..., T, d) by +angles (..., T, planes); dimensions beyond the planes are left alone.

    The angles come in a wide dtype; only their cosine and sine are rounded to the dtype of `x`.
    """
    (rotated,) = rotate_all([x], angles, layout)
    return rotated


def rotate_both(q: Tensor, k: Tensor, angles: Tensor, layout: Layout = "half") -> tuple[Tensor, Tensor]:
    """`rotate` of q and of k, which have one dtype, by the same angles: their cosine and sine are taken once."""
    rotated_q, rotated_k = rotate_all([q, k], angles, layout)
    return rotated_q, rotated_k


def rotate_all(tensors: Sequence[Tensor], angles: Tensor, layout: Layout) -> list[Tensor]:
    """`rotate` of each: of a text on a CPU with few passes over memory, else by the formula, which compilers fuse."""
    dtype = tensors[0].dtype
    if angles.device.type == "cpu" and angles.size(-2) > 1 and not torch.compiler.is_compiling():
        cos, sin = (turn.to(dtype) for turn in (angles.detach().cos(), angles.detach().sin()))
        return [Rotation.apply(x, angles, cos, sin, layout) for x in tensors]  # type: ignore[no-untyped-call]
    if angles.is_cpu and layout == "half" and not torch.is_grad_enabled():
        return rotate_at_once(tensors, Turn.by(angles, dtype))
    cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
    return [rotate_by(x, cos, sin, layout) for x in tensors]


def rotate_by_index(
    q: Tensor, k: Tensor, index: Tensor, theta: Tensor, layout: Layout, shared: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    """`rotate_both` by index x theta. Of one token, layers of the same frequencies take their cosine and sine once.

    Args:
        q, k: (B, H, T, d).
        index: (B or 1, 1, T) index positions, wide.
        theta: (planes,) frequencies.
        layout: which two dimensions make a plane.
        shared: what the layers of a pass share, see Context.
    """
    if index.size(-1) > 1 or not index.is_cpu or layout != "half" or torch.is_grad_enabled():
        return rotate_both(q, k, index.unsqueeze(-1) * theta, layout)
    made_of, turn = shared.get("turn", ((), None))
    # Layers may disagree on places and frequencies: only the very same ones serve.
    if turn is None or made_of[0] is not index or made_of[1] is not theta or turn.cos.dtype != q.dtype:
        turn = Turn.by(index.unsqueeze(-1) * theta, q.dtype)
        shared["turn"] = (index, theta), turn
    rotated_q, rotated_k = rotate_at_once([q, k], turn)
    return rotated_q, rotated_k


def rotate_by(x: Tensor, cos: Tensor, sin: Tensor, layout: Layout) -> Tensor:
    """`rotate` by the angles of this cosine and sine, (..., T, planes): the formula."""
    width = 2 * cos.size(-1)
    a, b = pairs(x[..., :width], layout)
    rotated = joined(a * cos - b * sin, a * sin + b * cos, layout)
    return torch.cat([rotated, x[..., width:]], dim=-1) if width < x.size(-1) else rotated


class Turn(NamedTuple):
    """A rotation, as factors of `x` and of `x` with the halves of its planes exchanged."""

    cos: Tensor  # (..., T, 2 planes)
    sin: Tensor  # (..., T, 2 planes), negative in the first half

    @staticmethod
    def by(angles: Tensor, dtype: torch.dtype) -> Turn:
        """The turn by angles (..., T, planes), rounded to `dtype`."""
        cos, sin = angles.cos(), angles.sin()
        return Turn(*torch.cat([cos, cos, -sin, sin], dim=-1).to(dtype).chunk(2, dim=-1))


def rotate_at_once(tensors: Sequence[Tensor], turn: Turn) -> list[Tensor]:
    """`rotate_by` of tensors of one shape, in few operations: while decoding, their number is what a token costs."""
    width = turn.cos.size(-1)
    x = torch.stack(list(tensors))
    rotated = x if width == x.size(-1) else x[..., :width]
    rotated = torch.addcmul(rotated * turn.cos, rotated.roll(width // 2, dims=-1), turn.sin)
    if width < x.size(-1):
        rotated = torch.cat([rotated, x[..., width:]], dim=-1)
    return list(rotated.unbind())


#: Tokens whose turns are made at a time while decoding.
AHEAD = 16


class TurnsAhead(NamedTuple):
    """The turns of AHEAD consecutive tokens by index / alpha_h x theta, which decoding keeps."""

    first: float  # the first token's index
    alpha: Tensor  # (H, 1, 1)
    theta: Tensor  # (planes,)
    turns: Turn  # of (1, H, AHEAD, 2 planes)

    @staticmethod
    def by(index: Tensor, alpha: Tensor, theta: Tensor, dtype: torch.dtype) -> TurnsAhead:
        """Those of the token at `index`, a single number, and of the next."""
        next_ones = index.reshape(()) + torch.arange(AHEAD, dtype=index.dtype)
        turns = Turn.by(next_ones.view(1, 1, -1, 1) / alpha * theta, dtype)
        return TurnsAhead(float(index), alpha, theta, turns)

    def at(self, index: float, alpha: Tensor, theta: Tensor, dtype: torch.dtype) -> Turn | None:
        """The turn of the token at `index`; None where it is not among these, or the others are not theirs."""
        token = int(index - self.first)
        same = dtype == self.turns.cos.dtype and torch.equal(alpha, self.alpha)
        same = same and (theta is self.theta or torch.equal(theta, self.theta))
        if not same or not 0 <= token < AHEAD or self.first + token != index:
            return None
        cos, sin = self.turns
        return Turn(cos.narrow(-2, token, 1), sin.narrow(-2, token, 1))


def rotate_stretched(
    q: Tensor, k: Tensor, index: Tensor, alpha: Tensor, theta: Tensor, past: TurnsAhead | None
) -> tuple[Tensor, Tensor, TurnsAhead | None]:
    """`rotate_both` by index / alpha_h x theta, and what decoding keeps.

    Args:
        q, k: (B, H, T, d).
        index: (B or 1, 1, T) index positions, wide.
        alpha: (H, 1, 1) how slowly each head turns.
        theta: (planes,) frequencies.
        past: what was kept of the last tokens.
    """
    if index.numel() > 1 or not index.is_cpu or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return *rotate_both(q, k, index.unsqueeze(-1) / alpha * theta), None
    turn = None if past is None else past.at(float(index), alpha, theta, q.dtype)
    if past is None or turn is None:
        past = TurnsAhead.by(index, alpha, theta, q.dtype)
        turn = Turn(*(line.narrow(-2, 0, 1) for line in past.turns))
    rotated_q, rotated_k = rotate_at_once([q, k], turn)
    return rotated_q, rotated_k, past


class Rotation(torch.autograd.Function):
    """`rotate_by`, in few passes over memory. Backwards the gradient turns back; an angle gets what turns further:
    for y = R(phi) x, dx = R(-phi) dy and dphi = dy_2 y_1 - dy_1 y_2.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, angles: Tensor, cos: Tensor, sin: Tensor, layout: Layout) -> Tensor:
        y = rotate_without_graph(x, cos, sin, layout, 1)
        ctx.save_for_backward(cos, sin, *([y] if ctx.needs_input_grad[1] else []))
        ctx.layout, ctx.shape, ctx.angles = layout, x.shape, angles.shape
        ctx.wide = angles.dtype
        return y

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grad_outputs
        if grad.stride(-1) != 1:
            # As tiles leave the gradient of k: one copy costs less than passes across the grain.
            grad = grad.contiguous()
        cos, sin, *rest = ctx.saved_tensors
        dx = dphi = None
        if ctx.needs_input_grad[0]:
            dx = rotate_without_graph(grad, cos, sin, ctx.layout, -1).sum_to_size(ctx.shape)
        if rest:
            width = 2 * cos.size(-1)
            (y1, y2), (dy1, dy2) = (pairs(x[..., :width], ctx.layout) for x in (rest[0], grad))
            dphi = (dy2 * y1).addcmul_(dy1, y2, value=-1).sum_to_size(ctx.angles).to(ctx.wide)
        return dx, dphi, None, None, None


def rotate_without_graph(x: Tensor, cos: Tensor, sin: Tensor, layout: Layout, sense: int) -> Tensor:
    """`rotate_by`, by the angles (`sense` 1) or back (-1), into new memory in few passes."""
    width = 2 * cos.size(-1)
    like, _ = torch.broadcast_tensors(x[..., 0], cos[..., 0])  # type: ignore[no-untyped-call]
    y = x.new_empty(*like.shape, x.size(-1))
    (a, b), (first, second) = pairs(x[..., :width], layout), pairs(y[..., :width], layout)
    torch.mul(a, cos, out=first).addcmul_(b, sin, value=-sense)
    torch.mul(b, cos, out=second).addcmul_(a, sin, value=sense)
    y[..., width:] = x[..., width:]
    return y


def rotate_pairwise(q: Tensor, k: Tensor, angles: Iterable[Tensor], layout: Layout = "half") -> Tensor:
    """q_i^T R(-phi_ij) k_j, where the angles differ from pair to pair: Re sum over c of q_c conj(k_c) e^(i phi_c).

    An angle that is not one of the query minus one of the key does not split into a turn of q and a turn of k. This
    goes plane by plane over the pairs: exact, elementwise, O(R S d).

    Args:
        q: (B, H, R, d).
        k: (B, H, S, d).
        angles: phi_c for c = 0..d/2-1, each (B or 1, H or 1, R, S).
        layout: which two dimensions make a plane.

    Returns:
        (B, H, R, S), in float32 or wider.
    """
    dtype = torch.promote_types(q.dtype, torch.float32)
    q1, q2 = pairs(q.to(dtype), layout)
    # Planes first: (d/2, B, H, R, 2) and (d/2, B, H, 2, S).
    q_planes, across = (torch.stack(both, dim=-1).movedim(-2, 0) for both in ((q1, q2), (q2, -q1)))
    k_planes = torch.stack(pairs(k.to(dtype), layout), dim=-1).movedim(-2, 0).transpose(-1, -2)
    total = q1.new_zeros(())
    for q_c, across_c, k_c, angle in zip(q_planes, across, k_planes, angles, strict=True):
        total = torch.addcmul(total, q_c @ k_c, angle.cos().to(dtype))
        total = torch.addcmul(total, across_c @ k_c, angle.sin().to(dtype), value=-1)
    return total
