"""The operations of a run against PyTorch's own count of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from extrapo.bench.contenders import Case, model, tokens
from extrapo.bench.work import flops, utilisation

CASE = Case("sdpa", "auto", 64, 2, heads=2, head_dim=16)


def counted(run: object) -> int:
    """Operations of matrix products in one call."""
    assert callable(run)
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def test_a_forward_pass_of_the_model() -> None:
    """PyTorch counts attention over all pairs, the model over those that are seen; norms are not counted."""
    case = replace(CASE, impl="reference")
    gpt = model(case).requires_grad_(False)
    found = counted(lambda: gpt(tokens(case, case.length)))
    layers, _, width = case.model
    unseen = 4 * layers * width * case.batch * case.length * (case.length - 1) / 2
    matrices = sum(p.numel() for p in gpt.parameters() if p.dim() > 1)
    expected = flops(case, "step", matrices) / 3
    assert found == pytest.approx(expected + unseen, rel=1e-3)


def test_phases() -> None:
    """Three forward passes make a step; one token of decoding reads every key once."""
    assert flops(CASE, "forward+backward", 0) == 3 * flops(CASE, "forward", 0)
    assert flops(CASE, "forward", 0) == 4 * 2 * 32 * 64 * 65 / 2
    whole = sum(flops(replace(CASE, length=length), "decode", 100) for length in range(1, 65))
    assert whole == flops(CASE, "step", 100) / 3


def test_utilisation_needs_a_known_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dense products of half precision, not the twice as many that a data sheet gives with sparsity."""
    assert utilisation(1e12, CASE) is None
    on_card = replace(CASE, device="cuda", dtype="bfloat16")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 80GB HBM3")
    assert utilisation(494.7e12, on_card) == 0.5
    assert utilisation(1e12, replace(on_card, dtype="float32")) is None
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "somebody's card")
    assert utilisation(1e12, on_card) is None


@pytest.mark.gpu
def test_utilisation_of_a_gpu() -> None:
    found = utilisation(1e12, replace(CASE, device="cuda", dtype="bfloat16"))
    assert found is None or 0 < found < 1
    assert torch.cuda.is_available()
