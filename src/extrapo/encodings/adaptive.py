"""Adaptive Positional Encoding (Vetcha, 2601.06113): temperature, frequency and a three-term bias, all by distance.

    logit_ij = s / (1 + lambda_h n) * q_i^T R(-n / alpha_h(n) theta) k_j
               - delta_h n - beta_h ln(1 + n) - gamma_h sqrt(n)

with n = i - j; R(phi) turns by +phi, and RoPE turns q_i by +i theta and k_j by +j theta, hence the -n between them.
A reconstruction from a digest of the paper: the parametrisation and all initial values are ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from extrapo.encodings.core.encoding import Encoding, Paper, Transformed, encodings
from extrapo.encodings.core.bias import Bias, Formula
from extrapo.encodings.core.context import Context
from extrapo.encodings.core.distance import DistanceBias, DistanceFormula, distance_bias, index_positions
from extrapo.errors import UserError
from extrapo.kernels import Kernel, Positive, alibi_slopes, create
from extrapo.kernels.base import Columns
from extrapo.kernels.mixtures import ThreeTerm
from extrapo.encodings.core.positions import wide
from extrapo.encodings.core.rotation import frequencies, require_even, rotate_both

AlphaMode = Literal["log", "const", "ema"]


class Terms(ThreeTerm):
    """The three-term kernel with some of its terms left out: those have no parameter.

    Args:
        delta: factor of the linear term.
        without: the terms left out, of `delta`, `beta` and `gamma`.
    """

    def __init__(self, heads: int, *, delta: list[float], without: set[str]) -> None:
        super().__init__(heads, delta=delta)
        for term in without:
            delattr(self, term)

    def values(self) -> tuple[Tensor, ...]:
        return tuple(
            getattr(self, term)() if hasattr(self, term) else torch.zeros(()) for term in ("delta", "beta", "gamma")
        )


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


def damped(n: Tensor, damping: Tensor) -> Tensor:
    """The temperature at distance n >= 0: 1 + lambda_h n."""
    return 1 + damping * n


@dataclass(frozen=True)
class DampedFormula(Formula):
    """s q.k / (1 + lambda_h n) + kappa(n), by number.

    Args:
        bias: kappa.
    """

    bias: DistanceFormula
    additive = False

    def __call__(self, content: Tensor, *factors: Tensor) -> Tensor:
        row, column, damping, *rest = factors
        n = row + column
        return content / damped(n.clamp_min(0.0), damping) + self.bias.kappa(n, *rest)


@dataclass(frozen=True)
class AdaptiveBias(DistanceBias):
    """The logits of a tile: the dot product, turned and damped by distance, plus the bias.

    Args:
        damping: (H, 1, 1) lambda_h; None for no temperature.
        stretch: (H, 1, 1) c_h of alpha_h(n); None where the rotation was done on q and k.
        theta: (F,) frequencies, each of d / 2F planes.
        entropies: (H, NODES) of alpha_h(n) = 1 + c_h Hbar_h(n), see Entropies; None for 1 + c_h ln(1 + n).
        observer: measures the entropies of this pass.
    """

    damping: Tensor | None = None
    stretch: Tensor | None = None
    theta: Tensor | None = None
    entropies: Tensor | None = None
    observer: Observer | None = None

    @property
    def additive(self) -> bool:
        return self.damping is None and self.stretch is None

    def fold(self) -> Columns | None:
        return super().fold() if self.additive else None

    def formula(self) -> Formula | None:
        if not self.plain() or self.stretch is not None:
            return None
        return self.by_number() if self.damping is None else DampedFormula(self.by_number())

    def factors(self, rows: slice) -> tuple[Tensor, ...]:
        row, column, *rest = super().factors(rows)
        damping = () if self.damping is None else (self.damping.to(self.dtype).reshape(1, -1, 1, 1),)
        return (row, column, *damping, *rest)

    def line(self) -> tuple[Tensor, Tensor] | None:
        if self.damping is None or self.stretch is not None or not self.toeplitz():
            return None
        last = slice(self.shape[2] - 1, self.shape[2])
        return self.temperature(last, 1.0), self.tile(last)

    def score(self, q: Tensor, k: Tensor, scale: float, rows: slice) -> Tensor:
        content = q @ k.transpose(-1, -2) if self.stretch is None else self.turned(q, k, self.ahead(rows))
        if self.damping is None:
            return scale * content + self.tile(rows)
        return torch.addcmul(self.tile(rows), content, self.temperature(rows, scale))

    def ahead(self, rows: slice) -> Tensor:
        """n of a tile, 0 above the diagonal."""
        return self.distance(rows).clamp_min(0.0)

    def temperature(self, rows: slice, scale: float) -> Tensor:
        """s / (1 + lambda_h n) of a tile."""
        assert self.damping is not None
        damping = self.damping.to(self.dtype)

        def factor(n: Tensor, damping: Tensor) -> Tensor:
            return scale / damped(n, damping)

        row = self.climbed(factor, (damped, scale), (damping,))
        return factor(self.ahead(rows), damping) if row is None else row

    def alpha(self, n: Tensor) -> Tensor:
        """alpha_h of distances (B or 1, 1, R, S): (B or 1, H, R, S)."""
        assert self.stretch is not None
        spread = torch.log1p(n)
        if self.entropies is not None:
            # Between the measured nodes the entropy is linear in the logarithm, as that of a uniform window is.
            node = spread / math.log(2)
            below = node.long().clamp_max(Entropies.NODES - 2)
            mean = self.entropies.to(n.dtype)
            left, right = (mean[:, at.squeeze(1)].transpose(0, 1) for at in (below, below + 1))
            spread = torch.lerp(left, right, node - below)
        return 1 + self.stretch.to(n.dtype) * spread

    def turned(self, q: Tensor, k: Tensor, n: Tensor) -> Tensor:
        """Re sum over c of q_c conj(k_c) e^(i n theta_c / alpha(n)), one frequency at a time: exact, O(T^2 d).

        A phase that is not linear in n does not split into a turn of q and a turn of k. Its derivative is summed beside
        the value, so that the backward pass keeps nothing of a tile's size per plane but the sum.
        """
        assert self.theta is not None
        batch, heads, size, _ = q.shape
        planes = (2, self.theta.numel(), -1)
        q = q.to(n.dtype).reshape(batch, heads, size, *planes)
        k = k.to(n.dtype).transpose(-1, -2).reshape(batch, heads, *planes, k.size(-2))
        first, second = q.unbind(-3)
        # With k, q gives the real part of q_c conj(k_c), and (q2, -q1) the imaginary one.
        pairs = torch.stack([q, torch.stack([second, -first], dim=-3)])
        queries = pairs.movedim(-2, 0).flatten(-2).contiguous()
        keys = k.movedim(-3, 0).flatten(-3, -2).contiguous()
        turns = n / self.alpha(n)
        phase = turns.detach()
        total = n.new_zeros(batch, heads, *n.shape[-2:])
        slope = torch.zeros_like(total) if turns.requires_grad else None
        for pair, key, theta in zip(queries, keys, self.theta.tolist(), strict=True):
            real, imaginary = pair[0] @ key, pair[1] @ key
            cos, sin = (theta * phase).cos(), (theta * phase).sin()
            total.addcmul_(real, cos).addcmul_(imaginary, -sin)
            if slope is not None:
                slope.addcmul_(real.detach(), -theta * sin).addcmul_(imaginary.detach(), -theta * cos)
        return total if slope is None else total + slope * (turns - phase)

    def mix(self, logits: Tensor, v: Tensor, rows: slice) -> Tensor:
        weights = logits.softmax(dim=-1)
        if self.observer is not None:
            self.observer(weights.detach(), self.stop(rows))
        return weights.to(v.dtype) @ v


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
    owns = True

    def __init__(
        self,
        heads: int,
        head_dim: int,
        dim: int,
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
        super().__init__(heads, head_dim, dim)
        require_even(head_dim, "adaptive")
        without = {term for term, on in (("delta", linear), ("beta", log), ("gamma", sqrt)) if not on}
        if without and kernel != "three-term":
            raise UserError(f"encoding 'adaptive': linear, log and sqrt are terms of 'three-term', not of '{kernel}'")
        if not 0 <= momentum < 1:
            raise UserError(f"encoding 'adaptive': momentum must lie in [0, 1), not {momentum}")
        self.kernel: Kernel
        if kernel == "three-term":
            self.kernel = Terms(heads, delta=alibi_slopes(heads), without=without)
        else:
            self.kernel = create(kernel, heads)
        self.base, self.theta = base, theta
        self.damping = Positive(1e-3, heads) if temperature else None
        self.alpha = Positive(1.0, heads) if alpha_mode == "const" else None
        self.stretch = None if alpha_mode == "const" else Positive(0.1, heads)
        self.entropies = Entropies(heads, momentum) if alpha_mode == "ema" else None

    def frequencies(self, x: Tensor) -> Tensor:
        """(F,) theta_c, wide: RoPE's d/2, or the one of all planes."""
        if self.theta is None:
            return frequencies(self.head_dim, self.base, x)
        return torch.tensor([self.theta], dtype=wide(x), device=x.device)

    def transform(self, q: Tensor, k: Tensor, v: Tensor, *, x: Tensor, context: Context, carry: Any) -> Transformed:
        if self.alpha is None:
            return Transformed(q, k, v, carry)
        theta = self.frequencies(q).expand(self.head_dim // 2)
        angles = context.index.unsqueeze(-1) / self.alpha() * theta
        return Transformed(*rotate_both(q, k, angles), v, carry)

    def bias(self, x: Tensor, past: Bias | None = None, context: Context | None = None) -> Bias:
        plain = distance_bias(self.kernel, index_positions(x, past, context), past, x=x, heads=self.heads)
        return AdaptiveBias(
            **vars(plain),
            damping=None if self.damping is None else self.damping(),
            stretch=None if self.stretch is None else self.stretch(),
            theta=self.frequencies(x),
            entropies=None if self.entropies is None else self.entropies(),
            observer=Observer(self.entropies) if self.entropies is not None and self.training else None,
        )
