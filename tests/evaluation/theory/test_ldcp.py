"""How far the mean logit and the content reach."""

from __future__ import annotations

import math

import pytest
import torch

from extrapo.evaluation.theory import correlation_length, local_distance

N = torch.arange(4096, dtype=torch.float64)


@pytest.mark.parametrize(
    ("logits", "distance"),
    [
        (-N / 256, 1280),
        (-N / 512 - 0.3 * N.log1p() - 0.05 * N.sqrt(), 805),
        (-N / 256 - 0.1 * N.log1p() - 0.1 * N.sqrt(), 530),
        (0 * N, None),
    ],
)
def test_printed_distances(logits: torch.Tensor, distance: int | None) -> None:
    assert local_distance(logits) == distance
    # The gauge is that of the nearest key.
    assert local_distance(logits + 7) == distance


@pytest.mark.parametrize("slope", [2.0**-k for k in range(1, 9)])
def test_alibi_keeps_it_for_c_over_its_slope(slope: float) -> None:
    assert local_distance(-slope * N, 3.0) == math.floor(3 / slope)


def test_the_length_of_a_power() -> None:
    distances = [2**k for k in range(12)]
    left = [(1 - 1 / 64) ** n for n in distances]
    # Half of what is left at 1: 1 + ln 2 / -ln(1 - 1/64) tokens, linear in ln n between 32 and 64.
    assert correlation_length(left, distances) == pytest.approx(45.0, rel=0.06)
    assert correlation_length([1.0] * 12, distances) is None
