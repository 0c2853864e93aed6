"""How fast planes turn: RoPE's frequencies (2104.09864), and those for longer texts: NTK-aware, YaRN, LongRoPE."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor

from extrapo.encodings.core.positions import wide
from extrapo.errors import UserError


def require_even(head_dim: int, encoding: str) -> None:
    """Raise UserError unless the head's width splits into planes."""
    if head_dim % 2:
        raise UserError(
            f"encoding '{encoding}' rotates pairs of dimensions: the head width must be even, not {head_dim} "
            "(width / heads; change `dim` or `heads`)"
        )


def frequencies(head_dim: int, base: float | Tensor, x: Tensor) -> Tensor:
    """theta_c = base^(-2c/d) for the planes c = 0..d/2-1, in the wide dtype on the device of `x`.

    Shape (d/2,), or (..., d/2) for a base of shape (...).
    """
    if not isinstance(base, Tensor):
        return constant_frequencies(head_dim, float(base), x.device, wide(x))
    plane = torch.arange(head_dim // 2, device=x.device, dtype=wide(x))
    return torch.pow(base.to(plane).unsqueeze(-1), -2 * plane / head_dim)


@lru_cache(maxsize=64)
def constant_frequencies(head_dim: int, base: float, device: torch.device, dtype: torch.dtype) -> Tensor:
    """`frequencies` of a base that is known: made once, for every layer and token."""
    # Made while a text is generated, they may still be trained with.
    with torch.inference_mode(False):
        # Filled, and not copied from the host.
        return frequencies(head_dim, torch.full((), base, device=device, dtype=dtype), torch.empty(0, device=device))


def ntk_frequencies(head_dim: int, base: float, s: Tensor) -> Tensor:
    """RoPE's at the base base s^(d/(d-2)): theta_c / s^(2c/(d-2)), the fastest as it was, the slowest divided by s.

    Shape (..., d/2) for `s` (...), how many times longer the text is than the original length.
    """
    return frequencies(head_dim, base * s ** (head_dim / max(head_dim - 2, 1)), s)


def yarn_range(
    head_dim: int, base: float, length: int, beta_fast: float, beta_slow: float, truncate: bool = True
) -> tuple[float, float]:
    """The planes that turn beta_fast and beta_slow times within `length`, rounded apart unless told not to, within
    [0, d - 1].
    """

    def plane(turns: float) -> float:
        return head_dim * math.log(length / (turns * 2 * math.pi)) / (2 * math.log(base))

    low, high = plane(beta_fast), plane(beta_slow)
    if truncate:
        low, high = math.floor(low), math.ceil(high)
    return min(max(low, 0), head_dim - 1), min(max(high, 0), head_dim - 1)


def yarn_frequencies(head_dim: int, base: float, s: Tensor, bounds: tuple[float, float]) -> Tensor:
    """theta_c (1 - ramp_c) + theta_c / s ramp_c, the ramp rising from 0 to 1 over the planes low..high of `bounds`.

    Shape (..., d/2) for `s` (...), how many times longer the text is than the original length.
    """
    low, high = bounds
    theta = frequencies(head_dim, base, s)
    plane = torch.arange(head_dim // 2, device=s.device, dtype=s.dtype)
    # Where both fall on one plane the ramp is a step.
    ramp = ((plane - low) / (high - low or 0.001)).clamp(0, 1)
    return theta * (1 - ramp) + theta * ramp / s.unsqueeze(-1)


def check_attention_factor(factor: float | None, mscale: bool, encoding: str) -> None:
    """Raise UserError unless YaRN's factor on q and k is positive, and asked for where it is given."""
    if factor is not None and (factor <= 0 or not mscale):
        raise UserError(f"encoding '{encoding}': attention_factor must be positive, and needs mscale; it is {factor}")


def yarn_magnitude(s: Tensor) -> Tensor:
    """YaRN's factor on q and on k, 0.1 ln s + 1, for s >= 1."""
    return 0.1 * s.log() + 1


def longrope_factors(searched: Sequence[float] | None, head_dim: int, s: float, encoding: str) -> list[float]:
    """LongRoPE's lambda_c, one per plane: those that were searched, or else NTK's s^(2c/(d-2)), from which a search
    starts; UserError where they are not d/2 numbers of at least 1 that do not decrease.
    """
    planes = head_dim // 2
    if searched is None:
        return [s ** (c / max(planes - 1, 1)) for c in range(planes)]
    if len(searched) != planes or searched[0] < 1 or any(b < a for a, b in pairwise(searched)):
        raise UserError(
            f"encoding '{encoding}': factors must be {planes} numbers, one per plane, at least 1 and none below the "
            f"one before, not {list(searched)}"
        )
    return list(searched)


def longrope_magnitude(s: Tensor, length: int) -> Tensor:
    """LongRoPE's factor on q and on k, sqrt(1 + ln s / ln L0), for s >= 1."""
    if length < 2:
        raise UserError(f"LongRoPE's factor on the logits needs an original length of at least 2, not {length}")
    return (1 + s.log() / math.log(length)).sqrt()
