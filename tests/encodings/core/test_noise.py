"""Noise by its keys: repeatable, uniform, without a trace of the keys' order or neighbourhood."""

import torch

from extrapo.encodings.core.noise import Draws, scramble, uniform


def test_scramble_is_splitmix64():
    """The published first outputs of the generator for the seed 1234567."""
    golden = 0x9E3779B97F4A7C15 - 2**64
    state = torch.tensor(1234567, dtype=torch.int64) + golden * torch.arange(1, 6)
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert [int(h) % 2**64 for h in scramble(state)] == expected


def test_a_number_depends_on_its_keys_alone():
    positions = torch.arange(64)
    whole = uniform(7, 3, positions.unsqueeze(-1), torch.arange(8))
    assert whole.dtype == torch.float64
    assert torch.equal(whole[20:], uniform(7, 3, positions[20:].unsqueeze(-1), torch.arange(8)))
    assert whole[5, 2] == uniform(7, 3, 5, 2)


def test_keys_do_not_commute_and_neighbours_are_independent():
    n = torch.arange(100_000)
    u = uniform(0, n)
    assert (u != uniform(n, 0)).float().mean() > 0.999
    assert 0 <= u.min() < u.max() < 1
    assert abs(u.mean() - 0.5) < 0.005
    assert abs(u.var() - 1 / 12) < 0.002
    for other in (uniform(0, n + 1), uniform(1, n)):
        assert abs(torch.corrcoef(torch.stack([u, other]))[0, 1]) < 0.015
    counts = torch.histc(u, 100, 0, 1)
    chi_square = ((counts - 1000) ** 2 / 1000).sum()
    assert chi_square < 160  # 99 degrees of freedom: above that once in ten thousand


def test_draws_count_training_passes_alone():
    draws = Draws()
    assert [int(draws()) for _ in range(3)] == [1, 2, 3]
    with torch.no_grad():
        assert int(draws()) == 3
    assert int(draws.eval()()) == 0
    again = Draws()
    again.load_state_dict(draws.state_dict())
    assert int(again()) == 4
