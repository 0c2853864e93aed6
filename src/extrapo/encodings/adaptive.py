"""Adaptive Positional Encoding (Vetcha, 2601.06113): temperature, frequency and a three-term bias, all by distance.

    logit_ij = s / (1 + lambda_h n) * q_i^T R(-n / alpha_h(n) theta) k_j
               - delta_h n - beta_h ln(1 + n) - gamma_h sqrt(n)

with n = i - j. A reconstruction from a digest of the paper: the parametrisation and the initial values are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from extrapo.encodings.base import Encoding, Paper, Transformed, distance_bias, encodings
from extrapo.encodings.bias import Bias, DistanceBias
from extrapo.kernels import Positive, alibi_slopes, create
from extrapo.positions import index
from extrapo.rotation import frequencies, require_even, rotate

AlphaMode = Literal["log", "const"]


@dataclass(frozen=True)
class AdaptiveBias(DistanceBias):
    """The logits of a tile: the dot product, turned and damped by distance, plus the bias.

    Args:
        damping: (H, 1, 1) lambda_h.
        stretch: (H, 1, 1) c_h of alpha_h(n) = 1 + c_h ln(1 + n); None where the rotation was done on q and k.
        theta: (d/2,) frequencies.
    """

    additive = False

    damping: Tensor | None = None
    stretch: Tensor | None = None
    theta: Tensor | None = None

    def tensors(self) -> tuple[Tensor, ...]:
        assert self.damping is not None
        own = (self.damping,) if self.stretch is None else (self.damping, self.stretch)
        return (*own, *super().tensors())

    def rebuilt(self, tensors: Sequence[Tensor]) -> AdaptiveBias:
        damping, *rest = tensors
        stretch = None if self.stretch is None else rest.pop(0)
        fields = {**vars(super().rebuilt(rest)), "damping": damping, "stretch": stretch}
        return AdaptiveBias(**fields)

    def fold(self) -> None:
        return None

    def score(self, q: Tensor, k: Tensor, scale: float, rows: slice) -> Tensor:
        assert self.damping is not None
        n = self.distance(rows).clamp_min(0.0)
        content = q @ k.transpose(-1, -2) if self.stretch is None else self.turned(q, k, n)
        return scale * content / (1 + self.damping.to(n.dtype) * n) + self.tile(rows)

    def turned(self, q: Tensor, k: Tensor, n: Tensor) -> Tensor:
        """Re sum over c of q_c conj(k_c) e^(i phi_c(n)), phi_c = n theta_c / alpha(n), plane by plane: exact, O(T^2 d).

        A phase that is not linear in n does not split into a turn of q and a turn of k.
        """
        assert self.stretch is not None
        assert self.theta is not None
        phase = n / (1 + self.stretch.to(n.dtype) * torch.log1p(n))
        q1, q2 = (part.unsqueeze(-1).unbind(-2) for part in q.chunk(2, dim=-1))
        k1, k2 = (part.transpose(-1, -2).unsqueeze(-2).unbind(-3) for part in k.chunk(2, dim=-1))
        total: Tensor | None = None
        for c, theta in enumerate(self.theta.tolist()):
            real = q1[c] * k1[c] + q2[c] * k2[c]
            imaginary = q2[c] * k1[c] - q1[c] * k2[c]
            angle = theta * phase
            plane = real * angle.cos() - imaginary * angle.sin()
            total = plane if total is None else total + plane
        assert total is not None
        return total


@encodings.register("adaptive")
class Adaptive(Encoding):
    """Temperature 1 / (1 + lambda n), rotation by n / alpha(n), bias by a kernel of n (three terms).

    With lambda = 0 and no bias it is RoPE; with lambda = 0, an infinite alpha and the linear term alone, ALiBi.

    Args:
        kernel: the bias's kernel.
        alpha_mode: `log`, alpha_h(n) = 1 + c_h ln(1 + n), the entropy of a uniform window as a stand-in for the
            attention's; `const`, one learned alpha_h, which lets the rotation act on q and k and costs much less.
        base: base of the rotation's frequencies.
    """

    paper = Paper(
        "Vetcha, 2601.06113",
        "index",
        "rotation",
        "three-term",
        "temperature, frequency, bias; a reconstruction",
    )
    takes_kernel = True

    def __init__(
        self,
        heads: int,
        head_dim: int,
        dim: int,
        *,
        kernel: str = "three-term",
        alpha_mode: AlphaMode = "log",
        base: float = 10_000.0,
    ) -> None:
        super().__init__(heads, head_dim, dim)
        require_even(head_dim, "adaptive")
        options = {"delta": alibi_slopes(heads)} if kernel == "three-term" else {}
        self.kernel = create(kernel, heads, **options)
        self.base = base
        self.alpha_mode: AlphaMode = alpha_mode
        self.damping = Positive(1e-3, heads)
        self.alpha = Positive(1.0, heads) if alpha_mode == "const" else None
        self.stretch = Positive(0.1, heads) if alpha_mode == "log" else None

    def transform(self, q: Tensor, k: Tensor, v: Tensor, *, x: Tensor, start: int, carry: Tensor | None) -> Transformed:
        if self.alpha is None:
            return Transformed(q, k, v, carry)
        turns = index(start, start + q.size(-2), q).unsqueeze(-1) / self.alpha()
        angles = turns * frequencies(self.head_dim, self.base, q)
        return Transformed(rotate(q, angles), rotate(k, angles), v, carry)

    def bias(self, x: Tensor, past: Bias | None = None) -> Bias:
        before = 0 if past is None else past.shape[-1]
        queries = index(before, before + x.size(1), x)
        plain = distance_bias(self.kernel, queries, past, x=x, heads=self.heads)
        return AdaptiveBias(
            **vars(plain),
            damping=self.damping(),
            stretch=None if self.stretch is None else self.stretch(),
            theta=frequencies(self.head_dim, self.base, x),
        )
