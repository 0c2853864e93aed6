"""Adaptive Positional Encoding (Vetcha, 2601.06113): temperature, frequency and a three-term bias, all by distance.

    logit_ij = s / (1 + lambda_h n) * q_i^T R(-n / alpha_h(n) theta) k_j
               - delta_h n - beta_h ln(1 + n) - gamma_h sqrt(n)

with n = i - j; R(phi) turns by +phi, and RoPE turns q_i by +i theta and k_j by +j theta, hence the -n between them.
A reconstruction from a digest of the paper: the parametrisation and all initial values are ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from extrapo.encodings.core.bias import Bias, Elementwise
from extrapo.encodings.core.context import Context
from extrapo.encodings.core.distance import DistanceBias, DistanceLogit, distance_bias
from extrapo.encodings.core.encoding import Encoding, Paper, Transformed, encodings
from extrapo.encodings.core.frequencies import frequencies, require_even
from extrapo.encodings.core.logit import Affine, Logit
from extrapo.encodings.core.positions import wide
from extrapo.encodings.core.relative import index_positions, is_counted
from extrapo.encodings.core.rotation import rotate_stretched
from extrapo.encodings.core.spec import LayerSpec
from extrapo.encodings.core.turned import TurnedRows
from extrapo.errors import UserError
from extrapo.kernels import Kernel, Positive, alibi_slopes, create
from extrapo.kernels.mixtures import ThreeTerm

AlphaMode = Literal["log", "const", "ema"]


class Entropies(nn.Module):
    """Running means of the entropy of each head's attention, of the queries that see 1, 2, 4, 8 ... keys.

    They start at ln m for m keys, the entropy of a uniform window, and are updated in training alone, in place, after
    a pass has taken its copy; those of rows longer than any seen hold the last value that was measured.

    Args:
        heads: number of heads H.
        momentum: weight of the old mean in an update, one per training pass.
    """

    NODES = 32
    mean: Tensor
    measured: Tensor

    def __init__(self, heads: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("mean", math.log(2) * torch.arange(self.NODES, dtype=torch.float32).repeat(heads, 1))
        self.register_buffer("measured", torch.zeros((), dtype=torch.int64))

    def forward(self) -> Tensor:
        """(H, NODES) entropies in nats at 2^0, 2^1 ... visible keys, a copy."""
        node = torch.arange(self.NODES, device=self.mean.device)
        last = torch.where(self.measured > 0, self.measured, self.NODES) - 1
        return self.mean[:, node.minimum(last)]

    @torch.no_grad()
    def update(self, node: int, weights: Tensor) -> None:
        """Take in the attention weights (B, H, 2^node) of the query that sees 2^node keys."""
        entropy = torch.special.entr(weights).sum(-1).mean(0)
        self.mean[:, node].lerp_(entropy.to(self.mean.dtype), 1 - self.momentum)
        self.measured.clamp_(min=node + 1)


class Observer:
    """One training pass's view of the entropies: each row is measured once, though the backward pass makes it again.

    Args:
        entropies: what is updated.
    """

    def __init__(self, entropies: Entropies) -> None:
        self.entropies = entropies
        self.seen: set[int] = set()

    def __call__(self, weights: Tensor, stop: int) -> None:
        """Measure what is of interest in the weights (B, H, R, S) of the R queries up to the one that sees `stop`."""
        above = stop - weights.size(-2)
        for node in range(above.bit_length(), stop.bit_length()):
            if node not in self.seen:
                self.seen.add(node)
                self.entropies.update(node, weights[:, :, 2**node - 1 - above, : 2**node])


def tabled(n: Tensor, tile: Tensor) -> Tensor:
    """A kernel whose values at n are known already."""
    return tile


@dataclass(frozen=True)
class DampedLogit(Affine):
    """s q.k / (1 + lambda_h n) + kernel(n), of factors S_i, -S_j, lambda_h and the kernel's parameters.

    Args:
        kernel: the formula of the bias, without a gate; its factors are these but for lambda_h.
    """

    kernel: DistanceLogit

    def temperature(self, *factors: Tensor) -> Tensor:
        n, damping, *_ = self.kernel.distance(*factors)
        return 1 / (1 + damping * n.clamp_min(0.0))

    def bias(self, *factors: Tensor) -> Tensor:
        n, _, *values = self.kernel.distance(*factors)
        return self.kernel.of_distance(n, *values)


@dataclass(frozen=True)
class DampedBias(Elementwise):
    """A temperature on the dot product, 1 / (1 + lambda_h n), beside a kernel of the distance n.

    Args:
        host: the kernel's bias, without a gate.
        damping: (H, 1, 1) lambda_h.
    """

    host: DistanceBias
    damping: Tensor

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.host.shape

    @property
    def logit(self) -> Logit:
        return DampedLogit(self.host.of_pairs() if self.pointwise() else DistanceLogit(tabled, nonnegative=False))

    def factors(self, rows: slice) -> tuple[Tensor, ...]:
        # A table has no number per head: the kernel's values are a tile of their own.
        rest = self.host.numbers() if self.pointwise() else self.host.factors(rows)
        return (*self.host.edges(rows), self.per_head(), *rest)

    def per_head(self) -> Tensor:
        """lambda_h as a factor, (1, H, 1, 1)."""
        return self.damping.to(self.host.dtype).unsqueeze(0)

    def distance(self, rows: slice) -> Tensor:
        """n of a tile, (B or 1, 1, R, S')."""
        return self.host.distance(rows)

    def pointwise(self) -> bool:
        return self.host.pointwise()

    def toeplitz(self) -> bool:
        return self.host.toeplitz()

    def known_toeplitz(self) -> bool:
        return self.host.known_toeplitz()

    def cached_line(self) -> tuple[Tensor | None, Tensor] | None:
        return self.host.cached_line_of(DampedLogit(self.host.of_pairs()), self.per_head())

    def whole_text(self) -> Self:
        return replace(self, host=self.host.whole_text())

    def wide_formula(self) -> tuple[Logit, tuple[Tensor, ...]] | None:
        if (host := self.host.wide_formula()) is None:
            return None
        _, (queries, keys, *others) = host
        return DampedLogit(replace(self.host.of_pairs(), split=False)), (queries, keys, self.per_head(), *others)


@dataclass(frozen=True)
class StretchedRows(TurnedRows):
    """Logits of a dot product that is turned by n / alpha_h(n), where its host has that of q and k as they are.

    Args:
        stretch: (H, 1, 1) c_h of alpha_h(n).
        entropies: (H, NODES) of alpha_h(n) = 1 + c_h Hbar_h(n), see Entropies; None for 1 + c_h ln(1 + n).
        observer: measures the entropies of this pass.
    """

    host: DistanceBias | DampedBias
    stretch: Tensor = field(kw_only=True)
    entropies: Tensor | None = None
    observer: Observer | None = None

    def distance(self, rows: slice) -> Tensor:
        return self.host.distance(rows)

    def turns(self, n: Tensor) -> Tensor:
        return n / self.alpha(n)

    def alpha(self, n: Tensor) -> Tensor:
        """alpha_h of distances (B or 1, 1, R, S'): (B or 1, H, R, S')."""
        spread = torch.log1p(n)
        if self.entropies is not None:
            # Between the measured nodes the entropy is linear in the logarithm, as that of a uniform window is.
            node = spread / math.log(2)
            below = node.long().clamp_max(Entropies.NODES - 2)
            mean = self.entropies.to(n.dtype)
            left, right = (mean[:, at.squeeze(1)].transpose(0, 1) for at in (below, below + 1))
            spread = torch.lerp(left, right, node - below)
        return 1 + self.stretch.to(n.dtype) * spread

    def watched_rows(self) -> list[int]:
        if self.observer is None:
            return []
        _, _, queries, keys = self.shape
        seen = range((keys - queries).bit_length(), keys.bit_length())
        return [2**node - 1 - (keys - queries) for node in seen]

    def mix(self, logits: Tensor, v: Tensor, rows: slice) -> Tensor:
        weights = logits.softmax(dim=-1)
        if self.observer is not None:
            self.observer(weights.detach(), logits.size(-1))
        return weights.to(v.dtype) @ v


def kernel_of(past: Bias | None) -> DistanceBias | None:
    """The kernel's part of an earlier step's bias, which holds the positions."""
    if isinstance(past, StretchedRows):
        past = past.host
    if isinstance(past, DampedBias):
        past = past.host
    assert past is None or isinstance(past, DistanceBias)
    return past


@encodings.register("adaptive")
class Adaptive(Encoding):
    """Temperature 1 / (1 + lambda n), rotation by n / alpha(n), bias by a kernel of n (three terms).

    With lambda = 0 and no bias it is RoPE; with lambda = 0, an infinite alpha and the linear term alone, ALiBi.

    Args:
        kernel: the bias's kernel.
        temperature: divide the dot product by 1 + lambda_h n, lambda_h = 0.001 at the start.
        linear: the bias has the term -delta_h n, with ALiBi's slopes at the start.
        log: the bias has the term -beta_h ln(1 + n), beta_h = 0.1 at the start.
        sqrt: the bias has the term -gamma_h sqrt(n), gamma_h = 0.1 at the start.
        alpha_mode: `log`, alpha_h(n) = 1 + c_h ln(1 + n), the entropy of a uniform window as a stand-in for the
            attention's; `ema`, 1 + c_h Hbar_h(n), a running mean of that entropy, measured in training and linear
            between 1, 2, 4, 8 ... keys; c_h = 0.1 at the start. `const`, one learned alpha_h, 1 at the start, which
            lets the rotation act on q and k and costs much less.
        base: base of the rotation's frequencies.
        theta: one frequency for all planes, in radians per token, instead of RoPE's; cheap in every mode.
        momentum: of the running mean, per training pass.

    Raises:
        UserError: a term of a kernel that has none; a momentum out of range.
    """

    paper = Paper(
        "Vetcha, 2601.06113",
        "index",
        "rotation",
        "three-term",
        "temperature, frequency, bias; a reconstruction",
        year=2026,
        certainty="reconstruction",
    )
    takes_kernel = True
    bias_kind = "owns"

    def __init__(
        self,
        spec: LayerSpec,
        *,
        kernel: str = "three-term",
        temperature: bool = True,
        linear: bool = True,
        log: bool = True,
        sqrt: bool = True,
        alpha_mode: AlphaMode = "log",
        base: float = 10_000.0,
        theta: float | None = None,
        momentum: float = 0.99,
    ) -> None:
        super().__init__(spec)
        require_even(spec.head_dim, "adaptive")
        if not (linear and log and sqrt) and kernel != "three-term":
            raise UserError(f"encoding 'adaptive': linear, log and sqrt are terms of 'three-term', not of '{kernel}'")
        if not 0 <= momentum < 1:
            raise UserError(f"encoding 'adaptive': momentum must lie in [0, 1), not {momentum}")
        self.kernel: Kernel
        if kernel == "three-term":
            self.kernel = ThreeTerm(
                spec.heads,
                delta=alibi_slopes(spec.heads) if linear else None,
                beta=0.1 if log else None,
                gamma=0.1 if sqrt else None,
            )
        else:
            self.kernel = create(kernel, spec.heads)
        self.base, self.theta = base, theta
        self.damping = Positive(1e-3, spec.heads) if temperature else None
        self.idle_steps = frozenset(() if alpha_mode == "const" else {"transform"})
        self.alpha = Positive(1.0, spec.heads) if alpha_mode == "const" else None
        self.stretch = None if alpha_mode == "const" else Positive(0.1, spec.heads)
        self.entropies = Entropies(spec.heads, momentum) if alpha_mode == "ema" else None

    def frequencies(self, x: Tensor) -> Tensor:
        """(F,) theta_c, wide: RoPE's d/2, or the one of all planes."""
        if self.theta is None:
            return frequencies(self.head_dim, self.base, x)
        return torch.tensor([self.theta], dtype=wide(x), device=x.device)

    def exemptions(self) -> dict[str, str]:
        why = "within 5e-4: the gradient of a number per head is a small difference of large sums over all pairs"
        return {} if self.stretch is None else {"float32_gradients": why}

    def transform(self, q: Tensor, k: Tensor, v: Tensor, *, x: Tensor, context: Context, state: Any) -> Transformed:
        if self.alpha is None:
            return Transformed(q, k, v, state)
        theta = self.frequencies(q)
        if self.theta is not None:
            theta = theta.expand(self.head_dim // 2)
        q, k, state = rotate_stretched(q, k, context.index, self.alpha(), theta, state)
        return Transformed(q, k, v, state)

    def bias(self, x: Tensor, past: Bias | None = None, context: Context | None = None) -> Bias:
        host: DistanceBias | DampedBias
        host = distance_bias(
            self.kernel,
            index_positions(x, past, context),
            kernel_of(past),
            x=x,
            heads=self.heads,
            counted=is_counted(context),
        )
        if self.damping is not None:
            host = DampedBias(host, self.damping())
        if self.stretch is None:
            return host
        return StretchedRows(
            host,
            self.frequencies(x),
            stretch=self.stretch(),
            entropies=None if self.entropies is None else self.entropies(),
            observer=Observer(self.entropies) if self.entropies is not None and self.training else None,
        )
