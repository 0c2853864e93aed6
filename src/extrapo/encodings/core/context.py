"""Context: what a layer knows of the tokens of one pass besides its own input."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from extrapo.encodings.core.positions import index


@dataclass(frozen=True)
class Context:
    """The tokens of one pass: where they stand, and what few schemes read besides the layer's normed input.

    Args:
        index: (B or 1, 1, T) index positions in the wide dtype: 0, 1, 2 ... unless a scheme samples or segments them.
        start: number of tokens before these (0 in a parallel pass).
        tokens: (B, T) their ids; None where a layer is used by itself.
        residual: (B, T, D) the residual stream before this layer's norm; None where a layer is used by itself.
        offset: (B, 1, T) each token's offset in its segment, for schemes that segment the text.
        shared: what layers leave for later layers of the same pass.
        counted: the index, where it is known to go up by ones; another one in its place is not.
    """

    index: Tensor
    start: int = 0
    tokens: Tensor | None = None
    residual: Tensor | None = None
    offset: Tensor | None = None
    shared: dict[str, Any] = field(default_factory=dict)
    counted: Tensor | None = None

    @staticmethod
    def plain(x: Tensor, start: int = 0) -> Context:
        """Tokens start, start + 1, ... of the layer input `x` (B, T, D), and nothing else known."""
        places = index(start, start + x.size(1), x)
        return Context(places, start, counted=places)

    @property
    def is_counted(self) -> bool:
        """Whether the index is known to go up by ones, without a look at its numbers."""
        return self.counted is self.index


@dataclass(frozen=True)
class Positions:
    """What a source of positions says of the tokens of one pass."""

    index: Tensor  # (B or 1, 1, T), wide
    offset: Tensor | None = None  # (B, 1, T), wide
    state: Any = None  # what the next step of decoding needs
