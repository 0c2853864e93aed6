"""Lines of distances are read and trained like any factor: tables, networks and sums of cosines of index positions."""

from __future__ import annotations

import pytest
import torch
from exact import distances, errors, outcome, tabled, trained
from outcomes import assert_near, draw, encoded_outcome, layer

from extrapo.attention import backend
from extrapo.encodings import Visibility
from extrapo.encodings.adaptive import DampedBias
from extrapo.encodings.core.hosted import Limited

pytestmark = pytest.mark.usefixtures("interpreter")

#: Kernels without a number per head: a table, a network, a small vector.
TILES = ("clip-table", "t5-bucket", "mlp-log", "cos-sum")

#: Of the largest value, in float32.
BOUND = 2e-6


@pytest.mark.parametrize("name", TILES)
def test_every_such_kernel(name: str) -> None:
    found = errors(tabled(name, queries=35, keys=35), positions=False)
    assert max(found.values()) <= BOUND, found


@pytest.mark.parametrize("name", TILES)
def test_contextual_distances_are_left_to_others(name: str) -> None:
    """There is no line of them."""
    bias = distances(name, queries=5, keys=5)
    q = draw(1, 2, 5, 16, dtype=torch.float32)
    assert "a number of each pair" in backend("triton").serves(bias, q, q).reason


@pytest.mark.parametrize(
    ("queries", "keys", "width", "batch", "heads", "group"),
    [(2, 2, 16, 1, 1, 1), (16, 32, 16, 2, 2, 1), (5, 49, 24, 1, 2, 2), (50, 51, 16, 1, 1, 1)],
)
def test_shapes(queries: int, keys: int, width: int, batch: int, heads: int, group: int) -> None:
    """Bands of diagonals that no block divides, fewer queries than keys, heads that share keys."""
    bias = tabled("clip-table", heads=heads, queries=queries, keys=keys, last=60)
    found = errors(bias, width=width, batch=batch, group=group, positions=False)
    assert max(found.values()) <= BOUND, found


@pytest.mark.parametrize("seen", [Visibility(7, 2), Visibility(33), Visibility(20, 17)], ids=str)
def test_windows_and_sinks(seen: Visibility) -> None:
    """A band beyond the window has the first keys alone."""
    found = errors(Limited(tabled("clip-table", heads=1, queries=53, keys=60, last=60), seen), positions=False)
    assert max(found.values()) <= BOUND, found


def test_a_factor_on_the_score_is_a_line_too() -> None:
    host = tabled("t5-bucket", queries=20, keys=20)
    found = errors(DampedBias(host, torch.full((2, 1, 1), 0.3)), positions=False)
    assert max(found.values()) <= BOUND, found


def test_half_precision_leaves_a_table_its_digits() -> None:
    found = errors(tabled("clip-table", queries=40, keys=40), dtype=torch.bfloat16, positions=False)
    assert found["field 2"] <= 1e-5, found
    assert max(found.values()) <= 4 * torch.finfo(torch.bfloat16).eps, found


def test_it_is_the_same_to_the_bit() -> None:
    bias = tabled("clip-table", queries=40, keys=40)
    q, k, v = (draw(1, 2, 40, 16, seed=n, dtype=torch.float32).requires_grad_() for n in range(3))
    leaves = [trained(bias, positions=False) for _ in range(2)]
    first, second = (outcome(one, "triton", q, k, v, q.detach()) for one in leaves)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("t5", {}),
        ("t5", {"bucketing": "clip"}),
        ("dynamic-bias", {}),
        ("sandwich", {}),
        ("adaptive", {"alpha_mode": "const", "kernel": "mlp-log"}),
        ("randomized-alibi", {}),
    ],
)
def test_schemes(name: str, options: dict[str, str]) -> None:
    made = layer(name, **options)
    expected = encoded_outcome(made, "reference", 19)
    found = encoded_outcome(made.float(), "triton", 19, dtype=torch.float32)
    assert found
    assert_near(found, expected, 2e-5)
