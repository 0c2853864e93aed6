"""Kernel: phi, the form that turns a distance z >= 0 into an additive bias, usually with phi(0) = 0 and phi <= 0."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from extrapo.errors import UserError
from extrapo.kernels.low_rank import LowRank
from extrapo.registry import Registry

kernels: Registry[Kernel] = Registry("kernel", "extrapo.kernels")

Constraint = Literal["softplus", "clamp"]
Initial = float | Sequence[float] | Tensor


#: Widths stay within these bounds, in units of z.
NARROWEST, WIDEST = 1e-3, 1e6


def per_head(initial: Initial, heads: int | None) -> Tensor:
    """Initial values as (heads, 1, 1), to broadcast over (B, heads, T, S); as they are where heads is None."""
    value = torch.as_tensor(initial, dtype=torch.float32).detach().clone()
    if heads is None:
        return value
    if value.numel() not in (1, heads):
        raise UserError(f"one initial value or one for each of {heads} heads is needed, not {value.numel()}")
    return value.reshape(-1, 1, 1).expand(heads, 1, 1).clone()


def bounded(x: Tensor, low: float, high: float) -> Tensor:
    """`x` held within bounds, with the gradient of `x` itself: nothing that is trained is stuck at a bound.

    KERPLE does so by editing its parameters in place; here the free value may wander past the bound, and comes back.
    """
    held = x.clamp(low, high)
    return held.detach() + (x - x.detach()) if torch.is_grad_enabled() and x.requires_grad else held


class Free(nn.Module):
    """A parameter without bounds, of any shape."""

    raw: Tensor

    def __init__(self, value: Tensor, *, trainable: bool = True) -> None:
        super().__init__()
        if trainable:
            self.raw = nn.Parameter(value)
        else:
            self.register_buffer("raw", value)

    def forward(self) -> Tensor:
        """The value in force."""
        return self.raw

    def __call__(self) -> Tensor:
        """`forward`, without a module's hooks: while decoding they would take longer than the value."""
        return self.forward()


class Positive(Free):
    """A parameter kept above `floor`: by softplus of a free value, or by clamping as KERPLE's code does.

    One value per head, shaped (heads, 1, 1) to broadcast over (B, heads, T, S); a scalar where heads is None.

    Raises:
        UserError: an initial value that is not positive or below `floor`, or not one value or one per head.
    """

    def __init__(
        self,
        initial: Initial,
        heads: int | None,
        *,
        floor: float = 0.0,
        ceiling: float = math.inf,
        constraint: Constraint = "softplus",
        trainable: bool = True,
    ) -> None:
        value = per_head(initial, heads)
        if (value < floor).any() or (value <= 0).any():
            raise UserError(f"initial values must be positive and at least {floor}, not {initial}")
        if not trainable:
            constraint = "clamp"
        if constraint == "softplus":
            # softplus^-1(y) = ln(e^y - 1) = y + ln(1 - e^-y), which does not overflow.
            above = (value - floor).clamp_min(torch.finfo(torch.float32).tiny)
            value = above + torch.log(-torch.expm1(-above))
        super().__init__(value, trainable=trainable)
        self.floor, self.ceiling = floor, ceiling
        self.constraint: Constraint = constraint

    def forward(self) -> Tensor:
        value = self.raw
        if self.constraint == "softplus":
            value = F.softplus(value)
            if self.ceiling == math.inf:
                return value + self.floor if self.floor else value
            value = value + self.floor
        return bounded(value, self.floor, self.ceiling)


class Width(Free):
    """A width w > 0 in units of z, kept as its logarithm: a step of the optimiser is a share of it, at any size.

    Shapes as `Positive`. Raises UserError for an initial value that is not positive.
    """

    def __init__(self, initial: Initial, heads: int | None) -> None:
        value = per_head(initial, heads)
        if (value <= 0).any():
            raise UserError(f"a width must be positive, not {initial}")
        super().__init__(value.double().log().float())

    def forward(self) -> Tensor:
        return bounded(self.raw, math.log(NARROWEST), math.log(WIDEST)).exp()


class Kernel(nn.Module, ABC):
    """phi(z). Subclasses state the formula in `phi`, a pure function, and their parameters in `values`.

    Args:
        heads: number of heads, each with parameters of its own and then `z` ends in (heads, T, S);
            None for scalar parameters and a `z` of any shape.
    """

    paper: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    #: phi is defined for z >= 0 alone: what lies above the diagonal is clamped before it is masked.
    needs_nonnegative: ClassVar[bool] = True
    #: its slope grows without bound towards 0, for some parameters in range: short distances need all their digits.
    steep: ClassVar[bool] = False
    #: its slope jumps, at more than a few distances.
    kinked: ClassVar[bool] = False
    #: phi never rises on z >= 0, for all parameters in range.
    monotone: ClassVar[bool] = True
    #: when the sum of e^phi(n) over n = 0, 1, 2, ... is finite.
    summable: ClassVar[str] = "unknown"
    #: phi(|x - y|) is conditionally positive definite on the line, for all parameters in range (KERPLE, 2205.09921).
    cpd: ClassVar[bool] = False

    def __init__(self, heads: int | None = None) -> None:
        super().__init__()
        self.heads = heads

    @staticmethod
    @abstractmethod
    def phi(z: Tensor, *values: Tensor) -> Tensor:
        """The formula, elementwise, in the dtype of `z`."""

    def values(self) -> tuple[Tensor, ...]:
        """All that `phi` reads, parameters in force and constants, in the order in which it takes them.

        Each is (heads, 1, 1) or a scalar; a table or a network has a shape of its own, which its phi broadcasts.
        """
        return ()

    @staticmethod
    def low_rank(queries: Tensor, keys: Tensor, gate: Tensor | None, *values: Tensor) -> LowRank | None:
        """phi(g_i (S_i - S_j)) as a product of columns up to a term of the row, where the form allows it exactly.

        Args:
            queries: (B or 1, H or 1, T) positions S_i.
            keys: (B or 1, H or 1, S) positions S_j.
            gate: (B, H, T) gate g_i on the distance, or None for 1.
            values: what `values()` gave.
        """
        return None

    def forward(self, z: Tensor) -> Tensor:
        """The bias of distances `z`, of the same shape; whole numbers are taken as floats."""
        if not z.is_floating_point():
            z = z.float()
        return self.phi(z, *(value.to(z.dtype) for value in self.values()))


#: Below this distance the roots are replaced by their chord through 0: a slope that is finite at z = 0.
CHORD = 1e-6


def root(z: Tensor, exponent: Tensor | float) -> Tensor:
    """z^exponent, exact at 0 and for z >= CHORD, with finite gradients everywhere (also for exponents below 1)."""
    return z.clamp_min(CHORD).pow(exponent) * (z / CHORD).clamp_max(1.0)


def alibi_slopes(heads: int) -> list[float]:
    """The slopes of ALiBi (Press et al., 2108.12409): 2^(-8h/H); between powers of two, every other one of 2H."""
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2.0 ** (-8.0 * h / power) for h in range(1, power + 1)]
    if power < heads:
        slopes += alibi_slopes(2 * power)[0::2][: heads - power]
    return slopes


def default_slopes(heads: int | None) -> Initial:
    """ALiBi's slopes as initial values; the slope of its one head, 2^-8, where heads is None."""
    return alibi_slopes(1)[0] if heads is None else alibi_slopes(heads)
