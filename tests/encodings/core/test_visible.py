"""Counts of visible keys, and SSMax's factor, number by number."""

from __future__ import annotations

import math

import pytest
import torch

from extrapo.encodings.core.visible import sharpness, visible_keys


@pytest.mark.parametrize("start", [0, 1, 7])
@pytest.mark.parametrize("shape", [(2, 5, 8), (2, 3, 5, 4)])
def test_a_query_sees_itself_and_all_before_it(start: int, shape: tuple[int, ...]) -> None:
    keys = visible_keys(start, torch.zeros(shape), torch.float64)
    assert keys.dtype == torch.float64
    assert keys.tolist() == [start + t + 1 for t in range(5)]


def test_the_factor_is_a_logarithm_per_head() -> None:
    s, keys = torch.tensor([[0.5], [-2.0]]), visible_keys(3, torch.zeros(1, 4, 2), torch.float64)
    got = sharpness(s, keys)
    assert got.dtype == torch.float64
    for h, size in enumerate((0.5, -2.0)):
        assert got[h].tolist() == pytest.approx([size * math.log(m) for m in (4, 5, 6, 7)], abs=1e-12)
