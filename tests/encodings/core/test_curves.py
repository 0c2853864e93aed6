"""Reading a query's curve at its keys' distances, and its reverse, against loops over pairs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from extrapo.encodings.core.bias import AddedBias
from extrapo.encodings.core.curves import gather_by_distance, longest_distance, scatter_by_distance, whole_distances
from extrapo.encodings.core.relative import Relative

GAPS = st.lists(st.integers(0, 5), min_size=1, max_size=8)


@dataclass(frozen=True)
class Nothing(Relative, AddedBias):
    """Positions, and nothing made of them."""

    def tile(self, rows: slice) -> torch.Tensor:
        return torch.zeros_like(self.distance(rows))


def relative(gaps: list[int], queries: int) -> Relative:
    """A bias whose last `queries` tokens are new; the gaps lie between one token and the next."""
    keys = torch.tensor(gaps, dtype=torch.float64).cumsum(0).view(1, 1, -1)
    return Nothing(2, keys[..., -queries:], keys)


@given(gaps=GAPS, last=st.integers(0, 12), data=st.data())
@settings(deadline=None, max_examples=50)
def test_gathering_and_scattering_go_pair_by_pair(gaps: list[int], last: int, data: st.DataObject) -> None:
    queries = data.draw(st.integers(1, len(gaps)))
    bias, rows = relative(gaps, queries), slice(0, queries)
    at = whole_distances(bias, rows, last)
    curves = torch.randn(1, 2, queries, last + 1)
    weights = torch.rand(1, 2, queries, len(gaps), dtype=torch.float64)
    values, sums = gather_by_distance(curves, at), scatter_by_distance(weights, at, last + 1)
    expected = torch.zeros_like(sums)
    for i in range(queries):
        for j in range(len(gaps)):
            n = min(max(int(bias.queries[0, 0, i] - bias.keys[0, 0, j]), 0), last)
            assert torch.equal(values[..., i, j], curves[..., i, n])
            expected[..., i, n] += weights[..., i, j]
    torch.testing.assert_close(sums, expected)


@given(gaps=GAPS)
@settings(deadline=None, max_examples=20)
def test_it_is_the_longest_distance(gaps: list[int]) -> None:
    bias = relative(gaps, len(gaps))
    assert longest_distance(bias.queries, bias.keys) == sum(gaps[1:])
