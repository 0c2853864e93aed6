"""Noise that depends on where it is used, not on when: a counter-based generator (the idea of Salmon et al., SC 2011).

A number is a hash of its keys (seed, layer, draw, position, plane ...), so that a run repeats itself, a decoding step
sees the noise of the parallel pass, and a text gets the same noise wherever it stands in a batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: Constants of SplitMix64 (Steele et al., OOPSLA 2014), as signed 64-bit integers.
GOLDEN = 0x9E3779B97F4A7C15 - 2**64
FIRST, SECOND = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64


def scramble(h: Tensor) -> Tensor:
    """SplitMix64's bijection of the 64-bit integers: every bit of the result depends on every bit of `h`."""
    h = (h ^ _shifted(h, 30)) * FIRST
    h = (h ^ _shifted(h, 27)) * SECOND
    return h ^ _shifted(h, 31)


def uniform(*keys: int | Tensor) -> Tensor:
    """Numbers in [0, 1), float64 (53 bits), one per combination of the keys: integers, and integer tensors that
    broadcast together; on the device of the tensors.
    """
    h = torch.zeros((), dtype=torch.int64, device=next((k.device for k in keys if isinstance(k, Tensor)), None))
    for key in keys:
        h = scramble((h ^ key) + GOLDEN)
    bits = _shifted(h, 11)
    # Devices without float64 round to 24 bits.
    return bits.to(torch.float32 if h.device.type == "mps" else torch.float64) * 2.0**-53


def _shifted(h: Tensor, bits: int) -> Tensor:
    """A logical shift to the right: torch's own keeps the sign."""
    return torch.bitwise_and(h >> bits, 2 ** (64 - bits) - 1)


class Draws(nn.Module):
    """Which draw is in force: draw 0 at evaluation, the next one at every training pass. Checkpoints keep it."""

    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self) -> Tensor:
        """The number of the draw, an int64 scalar: a key for `uniform`."""
        if not self.training:
            return torch.zeros_like(self.count)
        if torch.is_grad_enabled():
            self.count += 1
        return self.count.clone()
