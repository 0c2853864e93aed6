"""FIRE, functional interpolation for relative encoding (Li et al., 2310.04418; class FIRE of chuanyang-Zheng/DAPE)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from extrapo.encodings.core.bias import AddedBias, Bias
from extrapo.encodings.core.context import Context
from extrapo.encodings.core.encoding import Encoding, Paper, encodings
from extrapo.encodings.core.relative import Relative, index_positions, wide_enough, with_past
from extrapo.encodings.core.spec import LayerSpec
from extrapo.errors import UserError

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "leaky-relu": F.leaky_relu}

#: keeps the quotient finite where c is 0.
EPS = 1e-6


@dataclass(frozen=True)
class FIREBias(Relative, AddedBias):
    """A network of the distance, relative to the query's position.

    Args:
        log_scale: c of psi(z) = ln(|c z| + 1), a scalar.
        threshold: L, a scalar.
        network: weights (N, 1) and biases (N, 1) of the hidden layer, weights (H, N) of the output.
        activation: a name of ACTIVATIONS.
    """

    log_scale: Tensor = field(kw_only=True)
    threshold: Tensor = field(kw_only=True)
    network: tuple[Tensor, ...] = field(kw_only=True)
    activation: str = "relu"

    def psi(self, z: Tensor) -> Tensor:
        """ln(|c z| + 1)."""
        return torch.log1p((self.log_scale.to(self.dtype) * z).abs())

    def tile(self, rows: slice) -> Tensor:
        i = torch.maximum(self.queries[..., rows].to(self.dtype), self.threshold.to(self.dtype).abs())
        z = self.psi(self.distance(rows).clamp_min(0.0)) / (self.psi(i).unsqueeze(-1) + EPS)
        weights, biases, output = (t.to(self.dtype) for t in self.network)
        # The R x S' pairs side by side: (B or 1, N, R S') -> (B or 1, H, R S').
        hidden = ACTIVATIONS[self.activation](weights * z.flatten(1).unsqueeze(1) + biases)
        return (output @ hidden).view(z.size(0), self.heads, *z.shape[-2:])


@encodings.register("fire")
class FIRE(Encoding):
    """b_ij = MLP_h(psi(i - j) / psi(max(L, i))), psi(z) = ln(|c z| + 1), L = |m L_0|; c, m and the network are learned.

    The quotient lies in [0, 1] at any length. c starts at 0.1, m at 1, the network (1, 32, H) as torch's linear maps.
    Its output has no bias: a constant per head cancels in the softmax. One per layer, as in DAPE's code.

    Args:
        threshold: L_0. The paper's listing has 512; the runs of DAPE's code have half their noise_seq_length, 64 or
            256.
        width: hidden units.
        activation: `relu`, or `leaky-relu` as under DAPE.
    """

    paper = Paper(
        "Li et al., 2310.04418", "index", summary="a network of the log distance over the query's index", year=2023
    )
    translation_invariant = False

    def __init__(
        self,
        spec: LayerSpec,
        *,
        threshold: float = 512.0,
        width: int = 32,
        activation: Literal["relu", "leaky-relu"] = "relu",
    ) -> None:
        super().__init__(spec)
        if threshold <= 0 or width < 1:
            raise UserError(
                f"encoding 'fire': threshold must be positive and width at least 1, not {threshold} and {width}"
            )
        self.threshold, self.activation = threshold, activation
        self.c = nn.Parameter(torch.tensor(0.1))
        self.multiplier = nn.Parameter(torch.tensor(1.0))
        self.hidden = nn.Linear(1, width)
        self.output = nn.Linear(width, spec.heads, bias=False)

    def bias(self, x: Tensor, past: Bias | None = None, context: Context | None = None) -> Bias:
        queries = index_positions(x, past, context)
        return FIREBias(
            self.heads,
            queries,
            with_past(queries, past),
            wide_enough(x),
            log_scale=self.c,
            threshold=self.multiplier * self.threshold,
            network=(self.hidden.weight, self.hidden.bias.unsqueeze(-1), self.output.weight),
            activation=self.activation,
        )
