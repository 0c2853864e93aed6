"""Whether the sum of e^phi(n) over all n is finite, from the form of phi far out (KERPLE 2205.09921; 2307.10156).

    p = lim -d phi / d ln z:   the sum is finite if p > 1, and not if p <= 1

It is read off at distances that no text has, 10^15 to 10^30: at any affordable length a power of 1.01 looks like one of
0.99. Of the entropy, which needs the sum of p |ln p|, the same holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from extrapo.encodings.core.bias import Bias
from extrapo.encodings.core.distance import DistanceBias, SampledDistanceBias
from extrapo.kernels.windows import NOTHING

NEAR, FAR = 1e15, 1e30
#: Parameters are kept in float32: an exponent of exactly 1 has this margin.
MARGIN = 1e-5


def exponent(phi: Callable[[Tensor], Tensor]) -> Tensor:
    """p of a form on the line, per head (H,): inf for anything faster than a power, 0 for what is bounded.

    Args:
        phi: from distances (1, H or 1, 1, 2), or any that end in 2, to values of that shape.
    """
    ends = torch.tensor([NEAR, FAR], dtype=torch.float64).view(1, 1, 1, 2)
    values = phi(ends).detach().double()
    near, far = values.reshape(-1, 2).unbind(-1)
    power = (near - far) / math.log(FAR / NEAR)
    # A window's kernel has a floor in the place of -inf.
    unseen = far.isneginf() | ((near == far) & far.isclose(torch.tensor(math.log(NOTHING), dtype=far.dtype)))
    return torch.where(unseen, torch.inf, power)


def finite(power: Tensor) -> Tensor:
    """Whether the sum is finite, per head (H,)."""
    return power > 1 + MARGIN


def biases_within(value: Any) -> Iterator[Bias]:
    """A bias and those that it is made of."""
    if isinstance(value, Bias):
        yield value
        for one in fields(value):
            yield from biases_within(getattr(value, one.name))
    elif isinstance(value, tuple):
        for member in value:
            yield from biases_within(member)


def kernel_within(bias: Bias) -> DistanceBias | None:
    """The kernel of a distance in a bias, or in the bias of which it is made; None where there is none, or where its
    distances were drawn anew.
    """
    assert is_dataclass(bias)
    found = next((one for one in biases_within(bias) if isinstance(one, DistanceBias)), None)
    return None if isinstance(found, SampledDistanceBias) else found


def kernel_exponent(bias: DistanceBias) -> Tensor:
    """p of a bias's kernel, per head (H,)."""

    def phi(z: Tensor) -> Tensor:
        values = bias.phi(z, *(value.detach().double() for value in bias.values))
        return values.expand(1, bias.heads, 1, 2)

    return exponent(phi)
