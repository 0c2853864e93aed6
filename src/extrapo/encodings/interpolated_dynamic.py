"""RoPE stretched by as much as the text needs: dynamic NTK (emozilla 2023), dynamic YaRN (Peng et al., 2309.00071),
dynamic LongRoPE (Ding et al., 2402.13753).

    logit_ij = s m(r_i)^2 q_i^T R(-(i - j) theta(r_i)) k_j,    r_i = max(1, L_i / L0)

Frequencies answer to the current length L over the original one L0. A row's length is what it sees, L_i = i + 1: then
no logit depends on the tokens after it, and decoding, which meets one length after the other, equals the parallel pass.
The authors' code gives all rows the length of the whole pass instead; both agree on the last row, and up to L0.

Frequencies that change from row to row do not split into a turn of q and a turn of k. Keys are therefore kept as they
are; rows up to L0 cost two rotations, those beyond it an elementwise pass over the planes.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from extrapo.config.values import Count
from extrapo.encodings.core.bias import Bias, Rowwise
from extrapo.encodings.core.context import Context
from extrapo.encodings.core.encoding import Encoding, Paper, encodings
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
from extrapo.encodings.core.relative import Relative, index_positions, wide_enough, with_past
from extrapo.encodings.core.rotation import Layout, rotate, rotate_pairwise
from extrapo.encodings.core.spec import LayerSpec
from extrapo.errors import UserError

#: whose length a row goes by: its own, or that of the pass (or the step of decoding) that it is computed in.
Length = Literal["row", "pass"]


@dataclass(frozen=True, kw_only=True)
class Stretched(Relative, Rowwise):
    """Logits of queries and keys turned by frequencies of the row.

    Args:
        theta: r (...) -> frequencies (..., d/2), wide.
        magnitude: r (...) -> the factor (...) on q and on k.
        original_length: L0.
        length: whose length counts.
        layout: which two dimensions make a plane.
    """

    theta: Callable[[Tensor], Tensor]
    magnitude: Callable[[Tensor], Tensor]
    original_length: int
    length: Length
    layout: Layout

    def ratio(self, rows: slice) -> Tensor:
        """r_i = max(1, L_i / L0), (B or 1, 1, R or 1); L_i counts the positions from the first to the row's own."""
        last = self.queries[..., rows] if self.length == "row" else self.queries[..., -1:]
        return ((last - self.keys[..., :1] + 1) / self.original_length).clamp_min(1.0)

    def score_rows(self, q: Tensor, k: Tensor, scale: float, rows: slice) -> Tensor:
        r = self.ratio(rows)
        i, j = self.queries[..., rows], self.keys[..., : self.stop(rows)]
        if bool((r == r[..., :1]).all()):
            theta = self.theta(r[..., :1])
            turned_k = rotate(k, j.unsqueeze(-1) * theta, self.layout)
            products = rotate(q, i.unsqueeze(-1) * theta, self.layout) @ turned_k.transpose(-1, -2)
        else:
            n = i.unsqueeze(-1) - j.unsqueeze(-2)
            angles = (theta.unsqueeze(-1) * n for theta in self.theta(r).unbind(-1))
            products = rotate_pairwise(q, k, angles, self.layout)
        return scale * self.magnitude(r).square().unsqueeze(-1).to(products.dtype) * products


class Dynamic(Encoding):
    """RoPE at the frequencies theta(r) of the current length; the classes below give them. At r = 1 they are RoPE's.

    Args:
        original_length: L0; None is the training length.
        length: `row`, each row by the length that it sees; `pass`, all rows by that of the pass, as the authors'
            code: then a row's logits change with the number of tokens after it, and decoding with what it is given.
        base: of RoPE's frequencies.
        layout: which two dimensions make a plane, see RoPE.
    """

    name: ClassVar[str]
    bias_kind = "owns"

    def __init__(
        self,
        spec: LayerSpec,
        *,
        original_length: Count | None,
        length: Length,
        base: float,
        layout: Layout,
    ) -> None:
        super().__init__(spec)
        require_even(spec.head_dim, self.name)
        self.original_length = original_length or spec.train_length
        self.length: Length = length
        self.base, self.layout = base, layout

    def exemptions(self) -> dict[str, str]:
        if self.length == "row":
            return {}
        why = "all rows go by the length of the pass"
        return {"decoding": why, "packing": why}

    @abstractmethod
    def theta(self, r: Tensor) -> Tensor:
        """The frequencies (..., d/2) for the lengths r (...) over L0, wide."""

    def magnitude(self, r: Tensor) -> Tensor:
        """The factor (...) on q and on k; the logits get its square."""
        return torch.ones_like(r)

    def bias(self, x: Tensor, past: Bias | None = None, context: Context | None = None) -> Bias:
        queries = index_positions(x, past, context)
        return Stretched(
            heads=self.heads,
            queries=queries,
            keys=with_past(queries, past),
            dtype=wide_enough(x),
            theta=self.theta,
            magnitude=self.magnitude,
            original_length=self.original_length,
            length=self.length,
            layout=self.layout,
        )


@encodings.register("dynamic-ntk")
class DynamicNTK(Dynamic):
    """base <- base (s r - (s - 1))^(d/(d-2)).

    Args:
        factor: s, how much faster than the length the base grows; 1 keeps the slowest plane within its range.
        original_length, length, base, layout: see Dynamic.
    """

    name = "dynamic-ntk"
    paper = Paper(
        "emozilla 2023; 2309.00071",
        "index",
        "rotation",
        summary="NTK's larger base, by the current length",
        year=2023,
        state="position",
    )

    def __init__(
        self,
        spec: LayerSpec,
        *,
        factor: float = 1.0,
        original_length: Count | None = None,
        length: Length = "row",
        base: float = 10_000.0,
        layout: Layout = "half",
    ) -> None:
        super().__init__(spec, original_length=original_length, length=length, base=base, layout=layout)
        if factor <= 0:
            raise UserError(f"encoding 'dynamic-ntk': factor must be positive, not {factor}")
        self.factor = factor

    def theta(self, r: Tensor) -> Tensor:
        return ntk_frequencies(self.head_dim, self.base, self.factor * r - (self.factor - 1))


@encodings.register("dynamic-yarn")
class DynamicYaRN(Dynamic):
    """YaRN with s = r.

    Args:
        original_length, length, base, layout: see Dynamic.
        beta_fast, beta_slow: the planes that turn more often than beta_fast times within L0 stay as they are, those
            that turn less often than beta_slow times are divided by r.
        mscale: logits times (0.1 ln r + 1)^2.
        truncate, attention_factor: see YaRN; a factor that is given holds at every length.
    """

    name = "dynamic-yarn"
    paper = Paper(
        "Peng et al., 2309.00071",
        "index",
        "rotation",
        summary="YaRN by the current length",
        year=2023,
        state="position",
    )

    def __init__(
        self,
        spec: LayerSpec,
        *,
        original_length: Count | None = None,
        length: Length = "row",
        base: float = 10_000.0,
        layout: Layout = "half",
        beta_fast: float = 32.0,
        beta_slow: float = 1.0,
        mscale: bool = True,
        truncate: bool = True,
        attention_factor: float | None = None,
    ) -> None:
        super().__init__(spec, original_length=original_length, length=length, base=base, layout=layout)
        check_attention_factor(attention_factor, mscale, self.name)
        self.truncate, self.attention_factor = truncate, attention_factor
        self.beta_fast, self.beta_slow, self.mscale = beta_fast, beta_slow, mscale

    def theta(self, r: Tensor) -> Tensor:
        bounds = yarn_range(
            self.head_dim, self.base, self.original_length, self.beta_fast, self.beta_slow, self.truncate
        )
        return yarn_frequencies(self.head_dim, self.base, r, bounds)

    def magnitude(self, r: Tensor) -> Tensor:
        if self.attention_factor is not None:
            return torch.full_like(r, self.attention_factor)
        return yarn_magnitude(r) if self.mscale else super().magnitude(r)


@encodings.register("dynamic-longrope")
class DynamicLongRoPE(Dynamic):
    """theta_c / lambda_c(r), lambda_c(r) = 1 + (lambda_c - 1) (r - 1) / (s - 1): RoPE at L0, LongRoPE at s L0.

    The factor on the logits is that of s at every length, as in the authors' code. Below L0 that code goes on to
    lambda_c(r) < 1; here shorter texts have RoPE's angles.

    Args:
        factor: s, for which the factors were searched; 4 unless told.
        factors: lambda_c, see LongRoPE; without them NTK's.
        short_factors: lambda_c of texts up to L0. With them there is a switch and no way between: these up to L0,
            `factors` beyond it, as in models that were tuned with both.
        original_length, length, base, layout: see Dynamic.
    """

    name = "dynamic-longrope"
    paper = Paper(
        "Ding et al., 2402.13753",
        "index",
        "rotation",
        summary="LongRoPE's factors by the current length",
        year=2024,
        state="position",
    )

    def __init__(
        self,
        spec: LayerSpec,
        *,
        factor: float = 4.0,
        factors: Sequence[float] | None = None,
        short_factors: Sequence[float] | None = None,
        original_length: Count | None = None,
        length: Length = "row",
        base: float = 10_000.0,
        layout: Layout = "half",
    ) -> None:
        super().__init__(spec, original_length=original_length, length=length, base=base, layout=layout)
        if factor <= 1:
            raise UserError(f"encoding 'dynamic-longrope': factor must be above 1, not {factor}")
        self.factor = factor
        self.factors = longrope_factors(factors, spec.head_dim, factor, self.name)
        self.short_factors = None
        if short_factors is not None:
            self.short_factors = longrope_factors(short_factors, spec.head_dim, factor, self.name)

    def theta(self, r: Tensor) -> Tensor:
        searched = torch.tensor(self.factors, dtype=r.dtype, device=r.device)
        if self.short_factors is not None:
            short = torch.tensor(self.short_factors, dtype=r.dtype, device=r.device)
            chosen = torch.where(r.unsqueeze(-1) > 1, searched, short)
            return frequencies(self.head_dim, self.base, r) / chosen
        factors = 1 + (searched - 1) * ((r - 1) / (self.factor - 1)).unsqueeze(-1)
        return frequencies(self.head_dim, self.base, r) / factors

    def magnitude(self, r: Tensor) -> Tensor:
        return longrope_magnitude(torch.full_like(r, self.factor), self.original_length)
