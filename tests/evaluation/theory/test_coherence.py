"""Coherence and mixing windows: closed forms, printed counts, draws."""

from __future__ import annotations

import math

import pytest
import torch

from extrapo.evaluation.theory import coherence

#: RoPE's frequencies at a head of 96: the amplitudes of `random` angles.
THETA = 1e4 ** (-torch.arange(48, dtype=torch.float64) / 48)


@pytest.mark.parametrize(
    ("distance", "half", "tenth"),
    [(64, 8, 5), (512, 13, 10), (1024, 15, 12), (4096, 18, 15), (8192, 20, 17), (32768, 24, 21), (65536, 26, 23)],
)
def test_how_many_planes_lose_phase(distance: int, half: int, tenth: int) -> None:
    left = coherence.uniform(THETA).pow(distance)
    assert (int((left < 0.5).sum()), int((left < 0.1).sum())) == (half, tenth)


def test_windows() -> None:
    assert coherence.mixing_window(coherence.uniform(THETA), 0.5) == 27_808
    assert coherence.mixing_window(coherence.householder(1.0, 64), 0.1) == 147
    for t in (0.1, 0.3, 1.0):
        exact = coherence.mixing_window(coherence.uniform(t), 0.1)
        assert exact == math.ceil(math.log(10) / -math.log(math.sin(t) / t))
        assert exact == pytest.approx(6 * math.log(10) / t**2, rel=0.04)
    assert coherence.mixing_window(coherence.gaussian(0.5), 0.01) == math.ceil(math.log(100) * 8)
    assert coherence.mixing_window(1.0, 0.1) == math.inf


def test_energy_weighs_the_planes() -> None:
    chi, energy = torch.tensor([0.5, 1.0]), torch.tensor([3.0, 1.0])
    assert coherence.mixing_window(chi, 0.3, energy) == 4  # .75 / 16 + .25 <= .3
    assert coherence.mixing_window(chi, 0.2, energy) == math.inf


@pytest.mark.parametrize("kind", ["uniform", "positive", "signs", "gaussian"])
def test_draws_lie_within_three_standard_errors(kind: str) -> None:
    generator = torch.Generator().manual_seed(7)
    noise = 2 * torch.rand(2, 8_000, 48, generator=generator, dtype=torch.float64) - 1
    steps, chi = {
        "uniform": (noise * THETA, coherence.uniform(THETA)),
        "positive": ((noise + 1) * THETA, coherence.uniform(THETA)),
        "signs": (noise.sign() * THETA, coherence.signs(THETA)),
        "gaussian": (
            torch.randn(noise.shape, generator=generator, dtype=torch.float64) * THETA,
            coherence.gaussian(THETA),
        ),
    }[kind]
    distances = [1, 4, 16, 64]
    found = coherence.of_steps(steps, distances)
    expected = chi.pow(torch.tensor(distances).view(-1, 1))
    off = ((found.value - expected).abs() / found.error.clamp_min(1e-12))[:, :, :]
    # Three standard errors hold 99.7%: of 384 values a few may lie without.
    assert (off > 3).double().mean() < 0.01
    assert off[:, :, 0].max() < 3
    assert torch.allclose(found.size, torch.ones_like(found.size))


def test_a_positive_mean_keeps_the_coherence_and_shows_in_the_phase() -> None:
    generator = torch.Generator().manual_seed(3)
    noise = 2 * torch.rand(1, 4000, 1, generator=generator, dtype=torch.float64) - 1
    centred, positive = (coherence.of_steps(0.3 * (noise + mean), [1, 2, 4]) for mean in (0.0, 1.0))
    assert torch.allclose(centred.value, positive.value)
    assert torch.allclose(positive.phase[0, :, 0], 0.3 * torch.tensor([1.0, 2.0, 4.0]).double(), atol=0.03)
    assert coherence.unseen_planes(torch.tensor([0.0, 1e-3, 0.1, 1.0]).double(), 128) == 1


def test_fixed_angles_lose_nothing() -> None:
    found = coherence.of_steps(torch.full((1, 512, 4), 0.3), [1, 2, 256])
    assert torch.allclose(found.value, torch.ones_like(found.value))


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_householder_steps_of_random_directions(beta: float) -> None:
    generator = torch.Generator().manual_seed(1)
    width, draws, steps = 16, 4000, 12
    x = torch.randn(draws, width, generator=generator, dtype=torch.float64)
    moved = x
    for _ in range(steps):
        w = torch.randn(draws, width, generator=generator, dtype=torch.float64)
        w = w / w.norm(dim=-1, keepdim=True)
        moved = moved - beta * w * (w * moved).sum(-1, keepdim=True)
    kept = ((x * moved).sum(-1) / x.square().sum(-1)).mean()
    assert float(kept) == pytest.approx(float(coherence.householder(beta, width)) ** steps, abs=0.02)
    energy = moved.square().sum(-1).mean() / x.square().sum(-1).mean()
    assert float(energy) == pytest.approx(float(coherence.householder_norm(beta, width)) ** steps, abs=0.02)


def test_a_scale_that_grows_along_the_text_is_no_turn() -> None:
    generator = torch.Generator().manual_seed(2)
    steps = torch.rand(2, 600, 3, generator=generator, dtype=torch.float64) - 0.5
    turned = torch.polar(torch.ones((), dtype=torch.float64), steps.cumsum(1))
    scale = torch.linspace(0.5, 3, 600, dtype=torch.float64)[:, None]
    plain, scaled = (coherence.measured(queries, turned, [1, 16]) for queries in (turned, scale * turned))
    assert torch.allclose(plain.value, scaled.value)
    assert scaled.value.max() < 1
