"""Model FLOP utilisation (PaLM, Chowdhery et al., 2204.02311, appendix B): the operations that a model's mathematics
asks for, over those that the device could do in the time.

Counted are the products with matrices, two operations for each weight and token, and attention over the keys before
each query alone; a backward pass costs two forward passes, and what it computes again does not count.
"""

from __future__ import annotations

from torch import nn

from extrapo.gpt import GPT

#: Operations per second of dense products in half precision, sums in float32, by a part of the card's name; the first
#: that fits. NVIDIA's data sheets, where these give them with sparsity, half of that.
PEAKS = {
    "B200": 2250e12,
    "H200": 989.4e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835.5e12,
    "H100": 989.4e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "V100": 125e12,
    "RTX 4090": 165.2e12,
    "RTX 3090": 71e12,
}


def forward_flops(matrices: int, layers: int, width: int, *, tokens: int, pairs: float) -> float:
    """Of a forward pass.

    Args:
        matrices: weights that each token is multiplied by.
        layers: with attention.
        width: of all heads together.
        tokens: in the batch.
        pairs: of a query and a key before it, in the batch.
    """
    # Of one pair of tokens, q.k and p v: a multiplication and an addition for each number of the width.
    return 2 * matrices * tokens + 4 * layers * width * pairs


def training_flops(gpt: GPT, length: int) -> float:
    """Of one token in training, forward and backward, in windows of `length`.

    What an encoding adds beside its linear maps is left out: this is what attention without one would need.
    """
    # An output layer that shares the embedding's weights multiplies by them; a table that is looked up does not.
    matrices = sum(module.weight.numel() for module in gpt.modules() if isinstance(module, nn.Linear))
    layers, width = gpt.config.layers, gpt.config.dim
    return 3 * forward_flops(matrices, layers, width, tokens=1, pairs=(length + 1) / 2)


def peak_flops(card: str) -> float | None:
    """Operations per second of a card in half precision, by its name as CUDA has it; None where it is not known."""
    return next((most for part, most in PEAKS.items() if part.lower() in card.lower()), None)
