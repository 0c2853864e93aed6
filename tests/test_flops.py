"""The operations of a training step against PyTorch's own count of them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from extrapo import GPT, GPTConfig
from extrapo.flops import PEAKS, peak_flops, training_flops

BATCH, LENGTH = 2, 64


@pytest.mark.parametrize("changes", [{}, {"tied": False}, {"mlp": "swiglu"}, {"encoding": "cable"}])
def test_a_training_step(changes: dict[str, str | bool]) -> None:
    """PyTorch counts attention over all pairs, the model over those that are seen."""
    shape = {"encoding": "nope", "layers": 2, "heads": 2, "dim": 32, "vocab_size": 97, "impl": "reference"}
    gpt = GPT(GPTConfig(**{**shape, **changes}))
    tokens = torch.randint(0, 97, (BATCH, LENGTH + 1))
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(gpt(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()).backward()
    unseen = 3 * 4 * gpt.config.layers * gpt.config.dim * BATCH * LENGTH * (LENGTH - 1) / 2
    expected = BATCH * LENGTH * training_flops(gpt, LENGTH) + unseen
    # Of an encoding, its linear maps are counted, and not what it does beside them.
    assert counter.get_total_flops() == pytest.approx(expected, rel=1e-2 if "encoding" in changes else 1e-9)


@pytest.mark.parametrize(
    ("card", "peak"),
    [
        ("NVIDIA H200", 989.4e12),
        ("NVIDIA H100 80GB HBM3", 989.4e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("Tesla V100-SXM2-16GB", 125e12),
        ("NVIDIA GeForce RTX 4090", 165.2e12),
        ("Quadro K620", None),
    ],
)
def test_the_peak_of_a_card(card: str, peak: float | None) -> None:
    assert peak_flops(card) == peak


def test_no_card_hides_another() -> None:
    assert all(peak_flops(f"NVIDIA {card}") == peak for card, peak in PEAKS.items())
