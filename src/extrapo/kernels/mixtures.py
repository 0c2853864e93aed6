"""Sums of kernels: the three terms of Adaptive Positional Encoding (2601.06113), the means of MEP (2403.17698)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from extrapo.kernels.base import Free, Initial, Kernel, Positive, default_slopes, kernels, per_head, root

Weights = Literal["equal", "learned"]


@kernels.register("three-term")
class ThreeTerm(Kernel):
    """phi(z) = -delta z - beta ln(1 + z) - gamma sqrt(z): a term each for long, middle and short range.

    Args:
        delta: factor of the linear term, positive; None leaves the term out, here and below.
        beta: factor of the logarithm, positive.
        gamma: factor of the square root, positive.
    """

    paper = "Adaptive Positional Encoding, 2601.06113"
    summary = "-delta z - beta ln(1 + z) - gamma sqrt(z); initial values are a reconstruction"
    steep = True
    summable = "delta > 0, or gamma > 0, or beta > 1"
    cpd = True

    def __init__(
        self,
        heads: int | None = None,
        *,
        delta: Initial | None = 0.01,
        beta: Initial | None = 0.1,
        gamma: Initial | None = 0.1,
    ) -> None:
        super().__init__(heads)
        self.delta = None if delta is None else Positive(delta, heads)
        self.beta = None if beta is None else Positive(beta, heads)
        self.gamma = None if gamma is None else Positive(gamma, heads)

    @staticmethod
    def phi(z: Tensor, *values: Tensor) -> Tensor:
        delta, beta, gamma = values
        return -delta * z - beta * torch.log1p(z) - gamma * root(z, 0.5)

    def values(self) -> tuple[Tensor, ...]:
        terms = (self.delta, self.beta, self.gamma)
        return tuple(torch.zeros(()) if term is None else term() for term in terms)


class Mixture(Kernel):
    """Three kernels with a slope each and weights w_k that sum to 1. From MEP's abstract; its formulas were not found.

        phi_1(z) = -m_1 z                   exponential weight, as ALiBi's
        phi_2(z) = -m_2 z^2                 Gaussian weight
        phi_3(z) = -p ln(1 + m_3 z)         power-law weight

    Args:
        linear: m_1; None is ALiBi's slopes, here and below.
        gauss: m_2.
        log: m_3.
        p: exponent of the power law.
        weights: `equal`, 1/3 each (the paper's), or `learned` through a softmax.
        trainable: learn slopes and p (the paper has a variant without parameters).
    """

    paper = "MEP, 2403.17698"

    def __init__(
        self,
        heads: int | None = None,
        *,
        linear: Initial | None = None,
        gauss: Initial | None = None,
        log: Initial | None = None,
        p: Initial = 1.0,
        weights: Weights = "equal",
        trainable: bool = True,
    ) -> None:
        super().__init__(heads)
        slopes = [default_slopes(heads) if slope is None else slope for slope in (linear, gauss, log)]
        self.linear, self.gauss, self.log = (Positive(slope, heads, trainable=trainable) for slope in slopes)
        self.p = Positive(p, heads, trainable=trainable)
        equal = torch.stack([per_head(0.0, heads)] * 3)
        self.logits = Free(equal, trainable=weights == "learned")

    @staticmethod
    def terms(z: Tensor, *values: Tensor) -> list[tuple[Tensor, Tensor]]:
        """(ln w_k, phi_k(z)) of the three."""
        linear, gauss, log, p, *weights = values
        return list(zip(weights, [-linear * z, -gauss * z.square(), -p * torch.log1p(log * z)], strict=True))

    def values(self) -> tuple[Tensor, ...]:
        return (self.linear(), self.gauss(), self.log(), self.p(), *self.logits().log_softmax(0).unbind(0))


@kernels.register("mix-prob")
class MixProb(Mixture):
    """phi(z) = ln sum_k w_k e^(phi_k(z)): the weights e^phi_k are averaged, the heaviest tail wins. See Mixture."""

    summary = "ln of the mean of e^(-m z), e^(-m z^2), (1 + m z)^-p; reconstruction, from the abstract"
    summable = "p > 1"

    @staticmethod
    def phi(z: Tensor, *values: Tensor) -> Tensor:
        return torch.logsumexp(torch.stack([weight + phi for weight, phi in Mixture.terms(z, *values)]), dim=0)


@kernels.register("mix-logit")
class MixLogit(Mixture):
    """phi(z) = sum_k w_k phi_k(z): the biases are averaged, the lightest tail wins. See Mixture."""

    summary = "mean of -m z, -m z^2, -p ln(1 + m z); reconstruction, from the abstract"
    summable = "always (the linear and the Gaussian term)"
    cpd = True

    @staticmethod
    def phi(z: Tensor, *values: Tensor) -> Tensor:
        return torch.stack([weight.exp() * phi for weight, phi in Mixture.terms(z, *values)]).sum(0)
