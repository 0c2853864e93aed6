"""T5's buckets against its printed values, and the bias against a table that is read pair by pair."""

from __future__ import annotations

import math

import pytest
import torch

from extrapo import encodings
from extrapo.encodings import Context
from extrapo.encodings.t5 import T5
from extrapo.errors import UserError

H, D = 2, 4
#: distance -> bucket, for 32 buckets up to 128.
BUCKETS = {0: 0, 15: 15, 16: 16, 18: 16, 20: 17, 24: 19, 32: 21, 48: 24, 64: 26, 96: 29, 112: 30, 113: 31, 500: 31}


def layer(**options: object) -> T5:
    torch.manual_seed(0)
    made = encodings.create("t5", heads=H, head_dim=D, dim=H * D, **options).double()
    assert isinstance(made, T5)
    return made


def row(t5: T5, distances: list[int]) -> torch.Tensor:
    """(H, n) what the last token of a text adds at these distances."""
    positions = torch.tensor([500 - n for n in distances] + [500], dtype=torch.float64).view(1, 1, -1)
    x = torch.zeros(1, positions.size(-1), H * D, dtype=torch.float64)
    size = len(distances)
    return t5.bias(x, None, Context(positions)).added(slice(size, size + 1))[0, :, 0, :size]


def table(t5: T5) -> torch.Tensor:
    return next(t5.parameters()).view(H, -1)


def test_buckets() -> None:
    t5 = layer()
    torch.testing.assert_close(row(t5, list(BUCKETS)), table(t5)[:, list(BUCKETS.values())])


@pytest.mark.parametrize(("buckets", "max_distance"), [(8, 20), (16, 64), (32, 128)])
def test_bucket_formula(buckets: int, max_distance: int) -> None:
    t5, exact = layer(buckets=buckets, max_distance=max_distance), buckets // 2
    assert table(t5).size(1) == buckets
    distances = [n for n in range(2 * max_distance) if n not in (40, 41)]
    expected = []
    for n in distances:
        share = math.log(max(n, 1) / exact) / math.log(max_distance / exact)
        expected.append(n if n < exact else min(buckets - 1, exact + int(share * (buckets - exact) + 1e-12)))
    torch.testing.assert_close(row(t5, distances), table(t5)[:, expected])


def test_gradient_of_a_bucket_is_the_sum_over_its_distances() -> None:
    t5, receive = layer(buckets=4, max_distance=6), torch.randn(H, 12, dtype=torch.float64)
    (row(t5, list(range(12))) * receive).sum().backward()
    # e = 2, and ln(n/2) / ln(3) reaches a half at n = 3.46.
    groups = [[0], [1], [2, 3], list(range(4, 12))]
    expected = torch.stack([receive[:, group].sum(1) for group in groups], dim=1)
    torch.testing.assert_close(next(t5.parameters()).grad.view(H, -1), expected)


def test_clip_has_an_entry_per_distance_of_the_training_length() -> None:
    t5 = layer(train_length=20, bucketing="clip")
    assert table(t5).shape == (H, 20)
    torch.testing.assert_close(row(t5, [0, 7, 19, 20, 400]), table(t5)[:, [0, 7, 19, 19, 19]])
    assert table(layer(bucketing="clip", clip=5)).shape == (H, 6)


def test_sqrt_width_multiplies_the_table() -> None:
    plain, scaled = layer(), layer(sqrt_width=True)
    torch.testing.assert_close(row(scaled, [0, 3, 70]), math.sqrt(D) * row(plain, [0, 3, 70]))


def test_clip_without_its_bucketing() -> None:
    with pytest.raises(UserError, match="clip goes with bucketing = clip"):
        layer(clip=5)
