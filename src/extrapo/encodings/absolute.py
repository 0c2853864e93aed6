"""No encoding, and encodings of the absolute index added once to the embeddings (Vaswani et al., 1706.03762; GPT-2)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from extrapo.config.values import Count
from extrapo.encodings.core.context import Context
from extrapo.encodings.core.encoding import Encoding, Paper, encodings
from extrapo.encodings.core.positions import wide
from extrapo.encodings.core.spec import LayerSpec
from extrapo.errors import NotApplicable, UserError


@encodings.register("nope")
class NoPE(Encoding):
    """Nothing is added: causality is the only sign of position."""

    paper = Paper("Kazemnejad et al., 2305.19466", summary="no positional encoding; causality alone", year=2023)


class SinusoidalEmbedding(nn.Module):
    """PE(t, 2c) = sin(t / base^(2c/D)), PE(t, 2c + 1) = cos(the same), added to the token embeddings.

    Args:
        dim: model width D, even.
        base: 10,000 in the paper.
        scale: factor on the table.
    """

    def __init__(self, dim: int, base: float, scale: float) -> None:
        super().__init__()
        if dim % 2:
            raise UserError(f"encoding 'sinusoidal' needs an even width, not {dim}")
        self.dim, self.base, self.scale = dim, base, scale

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """(B, T, D) embeddings -> the same with positions added."""
        pair = torch.arange(0, self.dim, 2, device=x.device, dtype=wide(x))
        angles = context.index.squeeze(1).unsqueeze(-1) * torch.pow(self.base, -pair / self.dim)
        table = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)
        return x + self.scale * table.to(x.dtype)


@encodings.register("sinusoidal")
class Sinusoidal(Encoding):
    """Sines and cosines of the index, added once to the embeddings.

    Args:
        base: the longest wavelength is 2 pi base.
        scale: factor on the table. The paper adds a table of variance 1/2 to token embeddings of variance 1; GPT-2's
            start at a standard deviation of 0.02, so that 0.02 (the default) keeps the paper's proportion. At 1, the
            bare sum, tokens start at a thirtieth of the positions, and a short run learns little but unigrams.
    """

    paper = Paper(
        "Vaswani et al., 1706.03762", "index", summary="sin and cos of the index, added to the embeddings", year=2017
    )
    translation_invariant = False

    def __init__(self, spec: LayerSpec, *, base: float = 10_000.0, scale: float = 0.02) -> None:
        super().__init__(spec)
        self.base, self.scale = base, scale

    def embedding(self) -> nn.Module:
        return SinusoidalEmbedding(self.dim, self.base, self.scale)


class LearnedEmbedding(nn.Module):
    """A table of one vector per index, N(0, 0.02) at the start as in GPT-2.

    Args:
        length: rows of the table.
        dim: model width D.
    """

    def __init__(self, length: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(length, dim))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """(B, T, D) -> the same with positions added; NotApplicable past the table's last row."""
        row = context.index.squeeze(1).long()
        if (stop := int(row.max()) + 1) > self.weight.size(0):
            raise NotApplicable(
                f"not applicable: encoding 'learned' has a table of {self.weight.size(0)} positions, "
                f"and the text has {stop}"
            )
        return x + self.weight[row]


@encodings.register("learned")
class Learned(Encoding):
    """A learned vector per index, added once to the embeddings; undefined past the table.

    Args:
        max_length: rows of the table; the training length by default.
    """

    paper = Paper(
        "GPT-2, Radford et al. 2019", "index", summary="a learned table; not applicable past its end", year=2019
    )
    translation_invariant = False
    exempt: ClassVar[dict[str, str]] = {"any_length": "a table has no rows beyond its length"}

    def __init__(self, spec: LayerSpec, *, max_length: Count | None = None) -> None:
        super().__init__(spec)
        self.max_length = max_length or spec.train_length

    def embedding(self) -> nn.Module:
        return LearnedEmbedding(self.max_length, self.dim)
