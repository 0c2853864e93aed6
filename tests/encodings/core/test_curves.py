"""Reading a query's curve at its keys' distances, and its reverse, against loops over pairs."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from extrapo.encodings.core.curves import reach, read, spread, steps
from extrapo.encodings.core.distance import RelativeBias

GAPS = st.lists(st.integers(0, 5), min_size=1, max_size=8)


def relative(gaps: list[int], queries: int) -> RelativeBias:
    """A bias whose last `queries` tokens are new; the gaps lie between one token and the next."""
    keys = torch.tensor(gaps, dtype=torch.float64).cumsum(0).view(1, 1, -1)
    return RelativeBias(2, keys[..., -queries:], keys)


@given(gaps=GAPS, last=st.integers(0, 12), data=st.data())
@settings(deadline=None, max_examples=50)
def test_read_and_spread_go_pair_by_pair(gaps: list[int], last: int, data: st.DataObject) -> None:
    queries = data.draw(st.integers(1, len(gaps)))
    bias, rows = relative(gaps, queries), slice(0, queries)
    at = steps(bias, rows, last)
    curves = torch.randn(1, 2, queries, last + 1)
    weights = torch.rand(1, 2, queries, len(gaps), dtype=torch.float64)
    values, sums = read(curves, at), spread(weights, at, last + 1)
    expected = torch.zeros_like(sums)
    for i in range(queries):
        for j in range(len(gaps)):
            n = min(max(int(bias.queries[0, 0, i] - bias.keys[0, 0, j]), 0), last)
            assert torch.equal(values[..., i, j], curves[..., i, n])
            expected[..., i, n] += weights[..., i, j]
    torch.testing.assert_close(sums, expected)


@given(gaps=GAPS)
@settings(deadline=None, max_examples=20)
def test_reach_is_the_longest_distance(gaps: list[int]) -> None:
    bias = relative(gaps, len(gaps))
    assert reach(bias.queries, bias.keys) == sum(gaps[1:])
