"""LayerSpec: all that one layer's encoding is built from, whole and at once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LayerSpec:
    """The shape of one attention layer, and where in the model it stands.

    Args:
        heads: number of heads H.
        head_dim: width of a head d.
        dim: model width D, the width of the layer's input.
        layer: index of the layer, from 0.
        layers: number of layers.
        train_length: the length T that the model is trained at.
        vocab_size: number of token ids, for schemes with a table per token.
        first: the first layer of the same encoding: what serves all of them is made there.
    """

    heads: int
    head_dim: int
    dim: int
    layer: int = 0
    layers: int = 1
    train_length: int = 512
    vocab_size: int = 256
    first: int = 0
