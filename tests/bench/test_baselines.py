"""The formulations of today against the reference."""

from __future__ import annotations

import math

import pytest
import torch

from extrapo import encodings
from extrapo.attention.reference import Reference
from extrapo.bench.baselines import BASELINES
from extrapo.encodings import DistanceBias


@pytest.mark.parametrize("name", BASELINES)
def test_the_baselines_are_k_cable(name: str) -> None:
    torch.manual_seed(0)
    bias = encodings.create("k-cable", heads=2, head_dim=8, dim=16).bias(torch.randn(2, 33, 16))
    assert isinstance(bias, DistanceBias)
    q, k, v = torch.randn(3, 2, 2, 33, 8).unbind(0)
    expected = Reference()(q, k, v, bias, scale=1 / math.sqrt(8))
    torch.testing.assert_close(BASELINES[name](q, k, v, bias.queries, 1 / math.sqrt(8)), expected, rtol=1e-4, atol=1e-5)
