"""Logarithms of the distance: KERPLE's log forms (2205.09921), K-Cable's Cauchy kernel (2503.08067 v3, section 5.6)."""

from __future__ import annotations

import torch
from torch import Tensor

from extrapo.kernels.base import Constraint, Initial, Kernel, Positive, Width, kernels, root


@kernels.register("log")
class Log(Kernel):
    """phi(z) = -p ln(1 + a z).

    Args:
        p: outer factor, at least 0.01.
        a: inner factor, at least 0.01.
        constraint: `softplus` (default), or `clamp` as in KERPLE's code.
    """

    paper = "KERPLE, 2205.09921"
    summary = "-p ln(1 + a z)"
    summable = "p > 1"
    cpd = True

    def __init__(
        self,
        heads: int | None = None,
        *,
        p: Initial = 1.0,
        a: Initial = 1.0,
        constraint: Constraint = "softplus",
    ) -> None:
        super().__init__(heads)
        self.p = Positive(p, heads, floor=0.01, constraint=constraint)
        self.a = Positive(a, heads, floor=0.01, constraint=constraint)

    @staticmethod
    def phi(z: Tensor, *values: Tensor) -> Tensor:
        p, a = values
        return -p * torch.log1p(a * z)

    def values(self) -> tuple[Tensor, ...]:
        return self.p(), self.a()


@kernels.register("log-power")
class LogPower(Kernel):
    """phi(z) = -b ln(1 + a z^p), 0 < p <= 2: `log` at p = 1, `cauchy-log` at p = 2 and a = b = 1.

    Args:
        b: outer factor, at least 0.01.
        a: inner factor, at least 0.01.
        p: exponent, in [0.01, 2].
    """

    paper = "KERPLE, 2205.09921"
    summary = "-b ln(1 + a z^p); KERPLE's general form, of which it trains p = 1"
    steep = True
    summable = "b p > 1"
    cpd = True

    def __init__(self, heads: int | None = None, *, b: Initial = 1.0, a: Initial = 1.0, p: Initial = 1.0) -> None:
        super().__init__(heads)
        self.b = Positive(b, heads, floor=0.01)
        self.a = Positive(a, heads, floor=0.01)
        self.p = Positive(p, heads, floor=0.01, ceiling=2.0)

    @staticmethod
    def phi(z: Tensor, *values: Tensor) -> Tensor:
        b, a, p = values
        return -b * torch.log1p(a * root(z, p))

    def values(self) -> tuple[Tensor, ...]:
        return self.b(), self.a(), self.p()


@kernels.register("cauchy-log")
class CauchyLog(Kernel):
    """phi(z) = -ln(1 + (z / w)^2): the weight e^phi is a Cauchy density of the distance.

    Args:
        w: width; None is 1, as in the paper, without a parameter.
    """

    paper = "Cable v3, 2503.08067"
    summary = "-ln(1 + z^2)"
    needs_nonnegative = False
    summable = "always"
    cpd = True

    def __init__(self, heads: int | None = None, *, w: Initial | None = None) -> None:
        super().__init__(heads)
        self.w = None if w is None else Width(w, heads)

    @staticmethod
    def phi(z: Tensor, *values: Tensor) -> Tensor:
        if values:
            z = z / values[0]
        # Not log1p: below z = 1e-4 this is 0 where that is 1e-8, for half the time of all that tiles spend on it.
        y = (z * z).add_(1)
        return (y.log() if y.requires_grad else y.log_()).neg_()

    def values(self) -> tuple[Tensor, ...]:
        return () if self.w is None else (self.w(),)


@kernels.register("student")
class Student(Kernel):
    """phi(z) = -(nu + 1)/2 ln(1 + z^2 / (nu w^2)): Student's t density, tail z^-(nu + 1); nu = 1 is `cauchy-log`.

    Args:
        nu: degrees of freedom, at least 0.01.
        w: width.
    """

    paper = "-"
    summary = "-(nu + 1)/2 ln(1 + z^2 / (nu w^2)); derived from cauchy-log"
    needs_nonnegative = False
    summable = "always (nu > 0)"
    cpd = True

    def __init__(self, heads: int | None = None, *, nu: Initial = 1.0, w: Initial = 1.0) -> None:
        super().__init__(heads)
        self.nu = Positive(nu, heads, floor=0.01)
        self.w = Width(w, heads)

    @staticmethod
    def phi(z: Tensor, *values: Tensor) -> Tensor:
        nu, w = values
        return -(nu + 1) / 2 * torch.log1p((z / w).square() / nu)

    def values(self) -> tuple[Tensor, ...]:
        return self.nu(), self.w()
