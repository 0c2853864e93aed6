"""How fast planes turn, beside the papers' own numbers."""

from __future__ import annotations

import math

import pytest
import torch

from extrapo.encodings.core.frequencies import (
    frequencies,
    longrope_factors,
    longrope_magnitude,
    ntk_frequencies,
    require_even,
    yarn_frequencies,
    yarn_magnitude,
    yarn_range,
)
from extrapo.errors import UserError

#: Wide frequencies are asked for.
WIDE = torch.zeros(1, dtype=torch.float64)


def test_frequencies() -> None:
    expected = [100.0 ** (-2 * c / 6) for c in range(3)]
    assert frequencies(6, 100.0, torch.zeros(1)).tolist() == pytest.approx(expected, rel=1e-12)


def test_a_base_may_be_a_whole_number() -> None:
    assert torch.equal(frequencies(6, 500, WIDE), frequencies(6, torch.tensor(500.0, dtype=torch.float64), WIDE))


def test_frequencies_made_while_generating_can_be_trained_with() -> None:
    with torch.inference_mode():
        theta = frequencies(6, 123.0, WIDE)
    assert frequencies(6, 123.0, WIDE) is theta
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    (scale * theta).sum().backward()  # type: ignore[no-untyped-call]
    assert scale.grad is not None
    assert scale.grad.item() == pytest.approx(theta.sum().item())


def test_odd_width() -> None:
    require_even(8, "rope")
    with pytest.raises(UserError, match=r"encoding 'rope'.*must be even, not 7"):
        require_even(7, "rope")


def test_a_base_per_row() -> None:
    bases = torch.tensor([[100.0, 7.0]], dtype=torch.float64)
    got = frequencies(6, bases, bases)
    assert got.shape == (1, 2, 3)
    assert got[0, 1].tolist() == pytest.approx([7.0 ** (-2 * c / 6) for c in range(3)], rel=1e-12)


def test_ntk_keeps_the_fastest_plane_and_divides_the_slowest_by_s() -> None:
    s = torch.tensor([1.0, 8.0], dtype=torch.float64)
    plain, stretched = ntk_frequencies(64, 10_000.0, s)
    torch.testing.assert_close(plain, frequencies(64, 10_000.0, s))
    ratio = (plain / stretched).tolist()
    assert ratio == pytest.approx([8.0 ** (2 * c / 62) for c in range(32)], rel=1e-12)
    assert (ratio[0], ratio[-1]) == pytest.approx((1.0, 8.0))


def test_yarn_range_of_the_repository_example() -> None:
    """d = 64, base 10,000, L0 = 1,024: floor(5.66) and ceil(17.70)."""
    assert yarn_range(64, 10_000.0, 1024, 32.0, 1.0) == (5, 18)
    assert yarn_range(64, 10_000.0, 4, 32.0, 1.0) == (0, 0)
    assert yarn_range(64, 10_000.0, 10**30, 32.0, 1.0) == (63, 63)


def test_yarn_frequencies_rise_along_the_ramp() -> None:
    s = torch.tensor(4.0, dtype=torch.float64)
    ratio = frequencies(64, 10_000.0, s) / yarn_frequencies(64, 10_000.0, s, (5, 18))
    for c in range(32):
        ramp = min(max((c - 5) / (18 - 5), 0.0), 1.0)
        assert float(ratio[c]) == pytest.approx(1 / ((1 - ramp) + ramp / 4))
    step = frequencies(64, 10_000.0, s) / yarn_frequencies(64, 10_000.0, s, (3, 3))
    assert step.tolist() == pytest.approx([1.0] * 4 + [4.0] * 28)


def test_magnitudes() -> None:
    s = torch.tensor([1.0, 16.0], dtype=torch.float64)
    assert yarn_magnitude(s).tolist() == pytest.approx([1.0, 1.2772588722])
    assert longrope_magnitude(s, 4096).tolist() == pytest.approx([1.0, math.sqrt(1 + 4 / 12)])


def test_longrope_factors() -> None:
    assert longrope_factors(None, 8, 4.0, "longrope") == pytest.approx([1.0, 4 ** (1 / 3), 4 ** (2 / 3), 4.0])
    assert longrope_factors([1.0, 1.0, 2.0, 9.0], 8, 4.0, "longrope") == [1.0, 1.0, 2.0, 9.0]
    for wrong in ([1.0, 2.0, 3.0], [0.5, 1.0, 2.0, 3.0], [1.0, 3.0, 2.0, 4.0]):
        with pytest.raises(UserError, match=r"'longrope': factors must be 4 numbers"):
            longrope_factors(wrong, 8, 4.0, "longrope")
