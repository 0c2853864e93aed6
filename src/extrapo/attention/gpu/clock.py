"""Clock: contextual positions, sums of what each token adds (Cable 2503.08067), as one kernel forward and one backward.

    S_t = sum over s <= t of f(z_s),     dz_s = f'(z_s) * sum over t >= s of dS_t

What f is stands in `encodings/core/positions.py`. A program goes along one text and head, and keeps the sum so far,
wide.
"""

from __future__ import annotations

import linecache
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from extrapo.attention.gpu.expressions import Precise
from extrapo.attention.gpu.source import filled
from extrapo.attention.recorded.private import record
from extrapo.encodings.core.positions import INCREMENTS, wide

HEADER = """import triton
import triton.language as tl

from extrapo.attention.gpu.primitives import exp, inverse, log1p, power, sign

"""

TEMPLATE = """
@triton.jit
def sums(Z, S, z_batch, z_head, z_token, heads, length, N: tl.constexpr):
    text = tl.program_id(0).to(tl.int64)
    Z += text // heads * z_batch + text % heads * z_head
    S += text * length
    total = tl.zeros((1,), S.dtype.element_ty)
    for start in range(0, length, N):
        at = start + tl.arange(0, N)
        z = tl.load(Z + at * z_token, mask=at < length, other=0.0)
        {{increment}}
        step = tl.where(at < length, {{step}}, 0.0).to(S.dtype.element_ty)
        tl.store(S + at, total + tl.cumsum(step, 0), mask=at < length)
        total += tl.sum(step, 0)


@triton.jit
def gradients(Z, DS, DZ, z_batch, z_head, z_token, d_batch, d_head, d_token, heads, length, N: tl.constexpr):
    text = tl.program_id(0).to(tl.int64)
    Z += text // heads * z_batch + text % heads * z_head
    DZ += text // heads * d_batch + text % heads * d_head
    DS += text * length
    total = tl.zeros((1,), DS.dtype.element_ty)
    blocks = tl.cdiv(length, N)
    for block in range(0, blocks):
        at = (blocks - 1 - block) * N + tl.arange(0, N)
        z = tl.load(Z + at * z_token, mask=at < length, other=0.0)
        received = tl.load(DS + at, mask=at < length, other=0.0)
        g = (total + tl.cumsum(received, 0, reverse=True)).to(tl.float32)
        total += tl.sum(received, 0)
        {{derivative}}
        tl.store(DZ + at * d_token, {{slope}}, mask=at < length)
"""

#: Tokens that a program adds up at once.
BLOCK = 1024


@lru_cache(maxsize=16)
def functions(increments: str) -> dict[str, Any]:
    """`sums` and `gradients`, by name, for a name of INCREMENTS."""
    f = INCREMENTS[increments]
    with torch.inference_mode(False), torch.no_grad():
        z, g = torch.rand(2, 13).unbind(0)
        value = record(lambda z: (f(z),), z).graph
        slope = record(lambda z, g: torch.func.vjp(f, z)[1](g), z, g).graph
    forward, backward = Precise(), Precise()
    (step,), (derivative,) = forward.run(value, ["z"]), backward.run(slope, ["z", "g"])
    text = HEADER + filled(
        TEMPLATE,
        increment="\n".join(forward.statements),
        step=step,
        derivative="\n".join(backward.statements),
        slope=derivative,
    )
    file = f"<clock {increments}>"
    # Where Triton finds the source of a function.
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    made: dict[str, Any] = {"__name__": f"extrapo.attention.gpu.generated_clock_{increments.replace('-', '_')}"}
    exec(compile(text, file, "exec"), made)
    return made


@torch.library.custom_op("extrapo::clock", mutates_args=())
def clock(z: Tensor, increments: str) -> Tensor:
    """The positions (B, H, T), in the wide dtype, of z (B, H, T) in float32, under a name of INCREMENTS."""
    found: Tensor = shape(z, increments)
    with torch.cuda.device_of(z):  # type: ignore[no-untyped-call]
        functions(increments)["sums"][(z.size(0) * z.size(1),)](z, found, *z.stride(), z.size(1), z.size(2), N=BLOCK)
    return found


@clock.register_fake
def shape(z: Tensor, increments: str) -> Tensor:
    """What `clock` gives, without its numbers."""
    return torch.empty(z.shape, dtype=wide(z), device=z.device)


@torch.library.custom_op("extrapo::clock_backward", mutates_args=())
def clock_backward(grad: Tensor, z: Tensor, increments: str) -> Tensor:
    """The gradient of z from that of the positions, in memory as z is."""
    found, grad = torch.empty_like(z), grad.contiguous()
    with torch.cuda.device_of(z):  # type: ignore[no-untyped-call]
        functions(increments)["gradients"][(z.size(0) * z.size(1),)](
            z, grad, found, *z.stride(), *found.stride(), z.size(1), z.size(2), N=BLOCK
        )
    return found


@clock_backward.register_fake
def shape_backward(grad: Tensor, z: Tensor, increments: str) -> Tensor:
    """What `clock_backward` gives, without its numbers."""
    return torch.empty_like(z)


def keep(ctx: Any, inputs: tuple[Tensor, str], output: Tensor) -> None:
    """What the backward pass reads."""
    z, ctx.increments = inputs
    ctx.save_for_backward(z)


def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    """The gradients of the arguments of `clock`."""
    (z,) = ctx.saved_tensors
    dz: Tensor = clock_backward(grad, z, ctx.increments)
    return dz, None


clock.register_autograd(backward, setup_context=keep)
