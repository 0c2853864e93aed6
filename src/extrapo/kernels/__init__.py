"""The catalogue of kernels: the forms that turn a distance into a bias. The imports below are the list."""

from __future__ import annotations

from typing import Any

from extrapo.kernels.base import Columns, Kernel, Positive, alibi_slopes, kernels
from extrapo.kernels.logarithms import CauchyLog, Log
from extrapo.kernels.mixtures import ThreeTerm
from extrapo.kernels.powers import Linear, Power, SquareRoot
from extrapo.options import check

__all__ = [
    "CauchyLog",
    "Columns",
    "Kernel",
    "Linear",
    "Log",
    "Positive",
    "Power",
    "SquareRoot",
    "ThreeTerm",
    "alibi_slopes",
    "create",
    "get",
    "names",
    "register",
]

register = kernels.register
get = kernels.get
names = kernels.names


def create(name: str, heads: int | None = None, **options: Any) -> Kernel:
    """The kernel called `name`: a module that maps distances z >= 0 to biases of the same shape.

    Args:
        name: a registered name, such as `cauchy-log`.
        heads: number of heads with parameters of their own; None for scalar parameters.
        options: initial values and constraints, by the names in the kernel's docstring.

    Raises:
        UserError: an unknown name, or an option that the kernel does not have or take.
    """
    cls = kernels.get(name)
    check("kernel", name, cls, options)
    return cls(heads=heads, **options)
