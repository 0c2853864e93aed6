"""LayerSpec: all that one layer's encoding is built from, whole and at once."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from extrapo.errors import UserError


@dataclass(frozen=True)
class LayerSpec:
    """The shape of one attention layer, and where in the model it stands.

    Args:
        heads: number of heads H.
        head_dim: width of a head d.
        dim: model width D, the width of the layer's input.
        layer: index of the layer, from 0.
        layers: number of layers.
        train_length: the length T that the model is trained at: windows, logit scales, interpolation and tables begin
            to act there.
        vocab_size: number of token ids, for schemes with a table per token.
        peers: the layers of the model that have the part which is built from this, in order; None is all of them. What
            serves several layers is made in the first of these, and the last leaves nothing for a later one.
    """

    heads: int
    head_dim: int
    dim: int
    layer: int = 0
    layers: int = 1
    train_length: int = 512
    vocab_size: int = 256
    peers: tuple[int, ...] | None = None

    @property
    def is_first(self) -> bool:
        """Whether no layer before this one has the same part."""
        return self.layer == (0 if self.peers is None else self.peers[0])

    @property
    def is_last(self) -> bool:
        """Whether no layer after this one has the same part."""
        return self.layer == (self.layers - 1 if self.peers is None else self.peers[-1])

    @property
    def holders(self) -> int:
        """How many layers have the same part."""
        return self.layers if self.peers is None else len(self.peers)

    def check_shapes(self, q: Tensor, k: Tensor, v: Tensor, x: Tensor) -> None:
        """Whether they are (B, H, T, d) projections of (B, T, D): a product far below would tell of two numbers alone.

        Raises:
            UserError: they are not.
        """
        if x.dim() != 3 or x.size(-1) != self.dim:
            raise UserError(f"`x` must be (B, T, {self.dim}), the layer's input, not {tuple(x.shape)}")
        batch, tokens = x.shape[:2]
        for name, tensor in (("q", q), ("k", k), ("v", v)):
            shape, wanted = tuple(tensor.shape), (batch, self.heads, tokens, self.head_dim)
            fits = len(shape) == 4 and (shape[0], shape[2]) == (batch, tokens)
            if not fits or (name != "v" and shape[3] != self.head_dim) or (name == "q" and shape[1] != self.heads):
                raise UserError(f"`{name}` must be (B, H, T, d), here {wanted}, not {shape}")
