"""Sums of kernels: the three-term decay of Adaptive Positional Encoding (2601.06113, from a digest of the paper)."""

from __future__ import annotations

import torch
from torch import Tensor

from extrapo.kernels.base import Initial, Kernel, Positive, kernels, root


@kernels.register("three-term")
class ThreeTerm(Kernel):
    """phi(z) = -delta z - beta ln(1 + z) - gamma sqrt(z): a term each for long, middle and short range.

    Args:
        delta: factor of the linear term, positive.
        beta: factor of the logarithm, positive.
        gamma: factor of the square root, positive.
    """

    paper = "Adaptive Positional Encoding, 2601.06113"
    summary = "-delta z - beta ln(1 + z) - gamma sqrt(z); initial values are a reconstruction"

    def __init__(
        self, heads: int | None = None, *, delta: Initial = 0.01, beta: Initial = 0.1, gamma: Initial = 0.1
    ) -> None:
        super().__init__(heads)
        self.delta = Positive(delta, heads)
        self.beta = Positive(beta, heads)
        self.gamma = Positive(gamma, heads)

    @staticmethod
    def phi(z: Tensor, *values: Tensor) -> Tensor:
        delta, beta, gamma = values
        return -delta * z - beta * torch.log1p(z) - gamma * root(z, 0.5)

    def values(self) -> tuple[Tensor, ...]:
        return self.delta(), self.beta(), self.gamma()
