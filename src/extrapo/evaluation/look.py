"""What each layer's attention does on one short text, pair by pair: bias, weights, positions that tokens drive."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from extrapo.attention import backend
from extrapo.block import dense_bias
from extrapo.evaluation.theory.contextual import positions
from extrapo.evaluation.theory.passes import LayerPass, passes
from extrapo.gpt import GPT

#: The least weight that pictures tell from none.
LEAST = 1e-8


@dataclass(frozen=True)
class LayerLook:
    """One layer on one text.

    Args:
        bias: (H, T, T) what is added to s q.k, see `GPT.biases`; -inf where a key is not seen.
        weights: (H, T, T) what each key counts in a query's output; 0 where it is not seen.
        positions: (H, T) S_t where tokens drive them; None where they are places.
        gates: (H, T) the factor g_t on a query's distances; None for 1.
    """

    bias: NDArray[np.float32]
    weights: NDArray[np.float32]
    positions: NDArray[np.float64] | None = None
    gates: NDArray[np.float64] | None = None

    def log_weights(self) -> NDArray[np.float32]:
        """log10 of the weights, -8 at least; -inf where a key is not seen."""
        logs = np.log10(np.maximum(self.weights, LEAST))
        return np.where(np.isneginf(self.bias), -np.inf, logs).astype(np.float32)

    def first(self, tokens: int) -> LayerLook:
        """Of the first tokens alone: what is later changes nothing for them."""
        part = [None if one is None else one[..., :tokens] for one in (self.positions, self.gates)]
        return LayerLook(self.bias[:, :tokens, :tokens], self.weights[:, :tokens, :tokens], *part)


@torch.no_grad()
def looks(model: GPT, tokens: Tensor) -> list[LayerLook]:
    """Each layer of a model in evaluation mode on one text (1, T)."""
    return [layer_look(layer) for layer in passes(model, tokens)]


def layer_look(layer: LayerPass) -> LayerLook:
    """All pairs of one layer."""
    encoded, heads, length = layer.encoded, layer.q.size(1), layer.q.size(2)
    # Each key's value is a direction of its own, so that the output is the weights.
    one = torch.eye(length, dtype=encoded.q.dtype, device=encoded.q.device).expand(1, heads, -1, -1)
    weights = backend("reference")(encoded.q, encoded.k, one, encoded.bias, scale=layer.scale)
    clock, gates = positions(encoded.bias) or (None, None)
    return LayerLook(
        dense_bias(encoded, layer.q, layer.k, layer.scale)[0].cpu().numpy(),
        weights[0].float().cpu().numpy(),
        None if clock is None else clock.expand(heads, -1).cpu().numpy(),
        None if gates is None else gates.expand(heads, -1).cpu().numpy(),
    )
