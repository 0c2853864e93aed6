"""Encoding: one layer's positional encoding. Four optional steps, each a no-op unless the scheme has it.

    embed      once, at the bottom of the model      sinusoidal, learned
    transform  q, k (and v) by position              rotations
    bias       from the layer's input                ALiBi, Cable, ...
    (a bias whose `score` owns the logits)           Adaptive Positional Encoding

To bring your own, subclass Encoding in a file of your own and decorate it with `@extrapo.encodings.register("name")`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from extrapo.encodings.bias import Bias, DistanceBias, NoBias, Order
from extrapo.kernels.base import Kernel
from extrapo.registry import Registry

encodings: Registry[Encoding] = Registry("encoding", "extrapo.encodings")


@dataclass(frozen=True)
class Paper:
    """What the catalogue says of an encoding.

    Args:
        source: the paper, with its arXiv number.
        positions: `index` or `contextual`, or `-`.
        transform: the change of q and k, or `-`.
        kernel: the default kernel's name, or `-`.
        summary: one line; says "reconstruction" where the paper's own text was not the source.
    """

    source: str
    positions: str = "-"
    transform: str = "-"
    kernel: str = "-"
    summary: str = ""


class Transformed(NamedTuple):
    """What `transform` gives back."""

    q: Tensor  # (B, H, T, d)
    k: Tensor  # (B, H, T, d)
    v: Tensor  # (B, H, T, d)
    carry: Any  # what the next step of decoding needs: tensors, or nothing


class Encoding(nn.Module):
    """The positional encoding of one attention layer; this class itself is the one that does nothing.

    Args:
        heads: number of heads H.
        head_dim: width of a head d.
        dim: model width D = H d.
    """

    paper: ClassVar[Paper] = Paper("-")
    #: the kernels it can be given; none unless the scheme has a distance to apply one to.
    takes_kernel: ClassVar[bool] = False
    #: clauses of extrapo.testing.EncodingContract that it cannot satisfy: clause -> why.
    exempt: ClassVar[dict[str, str]] = {}

    def __init__(self, heads: int, head_dim: int, dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.head_dim = head_dim
        self.dim = dim

    @classmethod
    def embedding(cls, dim: int, train_length: int, **options: Any) -> nn.Module | None:
        """A module that maps token embeddings (B, T, D) and the index of the first to embeddings with positions.

        One per model, applied once at the bottom; None for schemes that act in the layers.
        """
        return None

    def transform(self, q: Tensor, k: Tensor, v: Tensor, *, x: Tensor, start: int, carry: Tensor | None) -> Transformed:
        """Change the queries, keys and values of the tokens start..start+T-1.

        Args:
            q, k, v: (B, H, T, d) projections of `x`.
            x: (B, T, D) the layer's input, after its norm.
            start: index of the first token; 0 in a parallel pass.
            carry: what the previous call returned while decoding, None at the start.
        """
        return Transformed(q, k, v, carry)

    def bias(self, x: Tensor, past: Bias | None = None) -> Bias:
        """The bias of the tokens of `x` as queries over all tokens so far as keys.

        Args:
            x: (B, T, D) the layer's input, after its norm.
            past: while decoding, the bias of the tokens before `x`, which holds their positions.
        """
        before = 0 if past is None else past.shape[-1]
        return NoBias(self.heads, x.size(1), before + x.size(1), x.device)

    def extra_repr(self) -> str:
        return f"heads={self.heads}"


def distance_bias(
    kernel: Kernel,
    queries: Tensor,
    past: Bias | None,
    *,
    x: Tensor,
    heads: int,
    gate: Tensor | None = None,
    order: Order = "after_gate",
) -> DistanceBias:
    """The bias kappa(g_i (S_i - S_j)) of new tokens at positions `queries` (B or 1, H or 1, T), after `past`."""
    keys = queries
    if past is not None:
        assert isinstance(past, DistanceBias)
        keys = torch.cat([past.keys, queries], dim=-1)
    return DistanceBias(
        heads=heads,
        queries=queries,
        keys=keys,
        phi=kernel.phi,
        values=kernel.values(),
        fold_columns=kernel.fold if order == "after_gate" or gate is None else None,
        gate=gate,
        order=order,
        nonnegative=kernel.needs_nonnegative,
        dtype=torch.promote_types(x.dtype, torch.float32),
    )
