"""Far mass, its bound, the two gaps and the length at which half of the mass is far."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from extrapo.evaluation.theory import far_coherence, far_mass
from extrapo.evaluation.theory.far_mass import (
    half_mass_length,
    log_n_peak,
    lower_bound,
    near_mass,
    onset_with_values,
)


def test_printed_values() -> None:
    assert float(lower_bound(256, 65_280, 3.0)) == pytest.approx(0.387, abs=5e-4)
    lengths = [round(half_mass_length(256, gap)) for gap in range(1, 7)]
    assert lengths == [696, 1892, 5142, 13977, 37994, 103278]
    assert round(onset_with_values(256, 1.0)) == 484_249


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 200), st.floats(0.1, 4.0), st.integers(0, 2**31))
def test_identities(near: int, far: int, size: float, seed: int) -> None:
    logits = size * torch.randn(near + far, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = far_mass(logits, near)
    p = logits.softmax(-1)
    assert float(found.mass + p[:near].sum()) == pytest.approx(1.0, abs=1e-6)
    # With the gap of log-mean-exps the near mass and F* are exact.
    assert float(found.mass) == pytest.approx(1 - near_mass(near, far, float(found.gap)), abs=1e-9)
    assert float(found.half_mass_length) == pytest.approx(half_mass_length(near, float(found.gap)), rel=1e-9)
    assert (float(found.mass) <= 0.5) == (float(found.gap) >= math.log(far / near))
    assert found.bound <= found.mass + 1e-12
    assert torch.allclose(far_mass(logits + 11, near).mass, found.mass)


def test_the_bound_is_reached_by_two_levels() -> None:
    logits = torch.tensor([2.0] * 16 + [-2.0] * 1000, dtype=torch.float64)
    found = far_mass(logits, 16)
    assert float(found.mass) == pytest.approx(float(lower_bound(16, 1000, 2.0)))
    assert float(found.bound) == pytest.approx(float(found.mass))


def test_the_mean_gap_needs_the_variance_beside_it() -> None:
    logits = 1.5 * torch.randn(400_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    logits[:16] = 3.0
    found = far_mass(logits, 16)
    assert float(found.mean_gap - found.variance / 2) == pytest.approx(float(found.gap), abs=0.02)
    assert float(found.variance) == pytest.approx(2.25, abs=0.02)


def test_keys_behind_a_window_are_no_far_keys() -> None:
    seen = torch.randn(50, dtype=torch.float64)
    masked = torch.cat([seen, torch.full((30,), -math.inf, dtype=torch.float64)])
    for a, b in zip(far_mass(seen, 20), far_mass(masked, 20), strict=True):
        assert torch.allclose(a, b)
    assert math.isnan(float(far_mass(seen, 50).mass))


@pytest.mark.parametrize(("c_gap", "limit"), [(0.5, 0.0), (1.0, 0.5), (1.5, 1.0)])
def test_a_log_n_scale_keeps_a_peak_iff_c_times_its_gap_exceeds_one(c_gap: float, limit: float) -> None:
    assert log_n_peak(10**12, c_gap) == pytest.approx(limit, abs=1e-3)


def test_values_that_turn_add_up_incoherently() -> None:
    generator = torch.Generator().manual_seed(5)
    weights = torch.full((4096,), 1 / 4096, dtype=torch.float64)
    same = torch.ones(4096, 8, dtype=torch.float64)
    turned = torch.randn(64, 4096, 8, generator=generator, dtype=torch.float64)
    kappa, floor = far_coherence(weights, same, 96)
    assert float(kappa) == pytest.approx(1.0)
    assert float(floor) == pytest.approx(1 / math.sqrt(4000))
    kappa, floor = far_coherence(weights, turned, 96)
    assert float(kappa.mean()) == pytest.approx(float(floor), rel=0.15)
