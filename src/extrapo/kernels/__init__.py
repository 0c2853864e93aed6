"""The catalogue of kernels: the forms that turn a distance into a bias. The imports below are the list."""

from __future__ import annotations

from typing import Any

from extrapo.kernels.base import Free, Kernel, Positive, Width, alibi_slopes, kernels
from extrapo.kernels.cosines import CosineSum
from extrapo.kernels.gaussians import GaussBias, GeneralisedGaussian
from extrapo.kernels.logarithms import CauchyLog, Log, LogPower, Student
from extrapo.kernels.low_rank import LowRank
from extrapo.kernels.mixtures import MixLogit, MixProb, ThreeTerm
from extrapo.kernels.networks import MLPLog
from extrapo.kernels.powers import Linear, Power, Retention, SquareRoot
from extrapo.kernels.saturating import ExpSaturating, GaussSaturating, Triangular
from extrapo.kernels.tables import ClipTable, T5Bucket
from extrapo.kernels.windows import TriangularWindow
from extrapo.options import check

__all__ = [
    "CauchyLog",
    "ClipTable",
    "CosineSum",
    "ExpSaturating",
    "Free",
    "GaussBias",
    "GaussSaturating",
    "GeneralisedGaussian",
    "Kernel",
    "Linear",
    "Log",
    "LogPower",
    "LowRank",
    "MLPLog",
    "MixLogit",
    "MixProb",
    "Positive",
    "Power",
    "Retention",
    "SquareRoot",
    "Student",
    "T5Bucket",
    "ThreeTerm",
    "Triangular",
    "TriangularWindow",
    "Width",
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
