"""RoPE stretched to longer texts by a fixed factor s: PI (Chen et al., 2306.15595), NTK (bloc97 2023), YaRN (Peng et
al., 2309.00071), LongRoPE (Ding et al., 2402.13753).

    pi        angle_c(t) = t theta_c / s
    ntk       base <- base s^(d/(d-2)): the fastest plane stays as it is, the slowest is divided by s
    yarn      theta_c where a plane turns often within the original length L0, theta_c / s where not, a ramp between
    longrope  theta_c / lambda_c, with a factor per plane found by search

They were made to stretch a model that was trained with RoPE; a model can also be trained with them from the start. At
s = 1 each is RoPE.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from extrapo.config.values import Count
from extrapo.encodings.core.context import Context
from extrapo.encodings.core.encoding import Encoding, Paper, Transformed, encodings
from extrapo.encodings.core.frequencies import (
    check_attention_factor,
    frequencies,
    longrope_factors,
    longrope_magnitude,
    ntk_frequencies,
    require_even,
    yarn_frequencies,
    yarn_magnitude,
    yarn_range,
)
from extrapo.encodings.core.positions import wide
from extrapo.encodings.core.rotation import Layout, rotate
from extrapo.encodings.core.spec import LayerSpec
from extrapo.errors import UserError


class Interpolated(Encoding):
    """RoPE at other frequencies; the classes below give them.

    Args:
        factor: s, how many times longer the texts are than the original length: at least 1, 4 unless told.
        base: of RoPE's frequencies.
        layout: which two dimensions make a plane, see RoPE.
    """

    name: ClassVar[str]

    def __init__(
        self,
        spec: LayerSpec,
        *,
        factor: float = 4.0,
        base: float = 10_000.0,
        layout: Layout = "half",
    ) -> None:
        super().__init__(spec)
        require_even(spec.head_dim, self.name)
        if factor < 1:
            raise UserError(f"encoding '{self.name}': factor must be at least 1, not {factor}")
        self.factor, self.base, self.layout = factor, base, layout

    @abstractmethod
    def theta(self, s: Tensor) -> Tensor:
        """The frequencies (d/2,) for the factor s, a scalar in the wide dtype."""

    def magnitude(self, s: Tensor) -> Tensor:
        """The factor on q and on k, a scalar; the logits get its square."""
        return torch.ones_like(s)

    def angles(self, index: Tensor, s: Tensor) -> Tensor:
        """Positions (..., T) -> angles (..., T, d/2)."""
        return index.unsqueeze(-1) * self.theta(s)

    def transform(self, q: Tensor, k: Tensor, v: Tensor, *, x: Tensor, context: Context, state: Any) -> Transformed:
        s = torch.full((), self.factor, dtype=wide(q), device=q.device)
        angles, magnitude = self.angles(context.index, s), self.magnitude(s).to(q.dtype)
        q, k = magnitude * rotate(q, angles, self.layout), magnitude * rotate(k, angles, self.layout)
        return Transformed(q, k, v, state)


@encodings.register("pi")
class PositionInterpolation(Interpolated):
    """angle_c(t) = t theta_c / s: indices are squeezed into the range of the original length. Options: Interpolated."""

    name = "pi"
    paper = Paper("Chen et al., 2306.15595", "index", "rotation", summary="RoPE at indices divided by s", year=2023)

    def theta(self, s: Tensor) -> Tensor:
        return frequencies(self.head_dim, self.base, s) / s


@encodings.register("ntk")
class NTK(Interpolated):
    """base <- base s^(d/(d-2)): theta_c is divided by s^(2c/(d-2)). Options: Interpolated."""

    name = "ntk"
    paper = Paper(
        "bloc97 2023; 2309.00071, 3.1",
        "index",
        "rotation",
        summary="RoPE at a larger base: the fastest plane stays, the slowest is divided by s",
        year=2023,
    )

    def theta(self, s: Tensor) -> Tensor:
        return ntk_frequencies(self.head_dim, self.base, s)


@encodings.register("yarn")
class YaRN(Interpolated):
    """NTK by parts: theta_c (1 - ramp_c) + theta_c / s ramp_c, and logits times (0.1 ln s + 1)^2.

    The ramp rises from 0 to 1 over the planes floor(c(beta_fast)) .. ceil(c(beta_slow)), where the plane that turns r
    times within L0 is c(r) = d ln(L0 / (2 pi r)) / (2 ln base).

    Args:
        factor, base, layout: see Interpolated.
        original_length: L0; None is the training length.
        beta_fast: planes that turn more often within L0 stay as they are.
        beta_slow: planes that turn less often are divided by s.
        mscale: the factor on the logits; without it the scheme is "NTK by parts".
        truncate: round the bounds of the ramp to whole planes, as the authors' code; some models do not.
        attention_factor: the factor on q and on k, in place of 0.1 ln s + 1.
    """

    name = "yarn"
    paper = Paper(
        "Peng et al., 2309.00071",
        "index",
        "rotation",
        summary="slow planes divided by s, fast ones not, a ramp between; sharper logits",
        year=2023,
    )

    def __init__(
        self,
        spec: LayerSpec,
        *,
        factor: float = 4.0,
        base: float = 10_000.0,
        layout: Layout = "half",
        original_length: Count | None = None,
        beta_fast: float = 32.0,
        beta_slow: float = 1.0,
        mscale: bool = True,
        truncate: bool = True,
        attention_factor: float | None = None,
    ) -> None:
        super().__init__(spec, factor=factor, base=base, layout=layout)
        check_attention_factor(attention_factor, mscale, self.name)
        self.truncate, self.attention_factor = truncate, attention_factor
        self.original_length, self.mscale = original_length or spec.train_length, mscale
        self.beta_fast, self.beta_slow = beta_fast, beta_slow

    def theta(self, s: Tensor) -> Tensor:
        bounds = yarn_range(
            self.head_dim, self.base, self.original_length, self.beta_fast, self.beta_slow, self.truncate
        )
        return yarn_frequencies(self.head_dim, self.base, s, bounds)

    def magnitude(self, s: Tensor) -> Tensor:
        if self.attention_factor is not None:
            return torch.full_like(s, self.attention_factor)
        return yarn_magnitude(s) if self.mscale else super().magnitude(s)


@encodings.register("longrope")
class LongRoPE(Interpolated):
    """angle_c(t) = t theta_c / lambda_c for t >= n_hat, t theta_c below; logits times 1 + ln s / ln L0.

    The paper finds lambda and n_hat by an evolutionary search on the perplexity of a trained model. Without a search,
    lambda_c = s^(2c/(d-2)), NTK's, which is among the search's starting points: what is left of LongRoPE then is its
    factor on the logits.

    Models that have other factors for short texts: `dynamic-longrope` with short_factors.

    Args:
        factor, base, layout: see Interpolated.
        factors: lambda_c, one per plane, at least 1 and not decreasing.
        n_hat: the first tokens, whose angles are RoPE's own. Above 0, logits depend on more than the distance. The
            authors' code leaves these without the factor as well; here all have it, as in the formula.
        original_length: L0; None is the training length.
    """

    name = "longrope"
    paper = Paper(
        "Ding et al., 2402.13753",
        "index",
        "rotation",
        summary="a searched factor per plane (without a search, NTK's); sharper logits",
        year=2024,
    )

    def __init__(
        self,
        spec: LayerSpec,
        *,
        factor: float = 4.0,
        base: float = 10_000.0,
        layout: Layout = "half",
        factors: Sequence[float] | None = None,
        n_hat: int = 0,
        original_length: Count | None = None,
    ) -> None:
        super().__init__(spec, factor=factor, base=base, layout=layout)
        self.factors = longrope_factors(factors, spec.head_dim, factor, self.name)
        self.n_hat, self.original_length = n_hat, original_length or spec.train_length

    def exemptions(self) -> dict[str, str]:
        return {"translation": "the first n_hat tokens turn otherwise than the rest"} if self.n_hat else {}

    def theta(self, s: Tensor) -> Tensor:
        return frequencies(self.head_dim, self.base, s) / torch.tensor(self.factors, dtype=s.dtype, device=s.device)

    def angles(self, index: Tensor, s: Tensor) -> Tensor:
        own = index.unsqueeze(-1) * frequencies(self.head_dim, self.base, s)
        return torch.where(index.unsqueeze(-1) < self.n_hat, own, super().angles(index, s))

    def magnitude(self, s: Tensor) -> Tensor:
        return longrope_magnitude(s, self.original_length)
