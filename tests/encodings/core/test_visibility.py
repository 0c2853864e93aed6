"""What queries see, against the rule pair by pair: windows, sinks, limits within limits, and blocks of pairs."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from extrapo.encodings.core.visibility import Visibility, hidden

LIMITS = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 4)), min_size=1, max_size=3)


def of(limits: list[tuple[int, int]]) -> Visibility:
    first, *rest = (Visibility(*limit) for limit in limits)
    for limit in rest:
        first = first.within(limit)
    return first


def seen(limits: list[tuple[int, int]], i: int, j: int) -> bool:
    return all(i - j < window or j < sinks for window, sinks in limits)


@given(limits=LIMITS, past=st.integers(0, 9), new=st.integers(1, 6))
@settings(max_examples=50, deadline=None)
def test_hidden_is_what_is_later_or_seen_by_one_alone(limits: list[tuple[int, int]], past: int, new: int) -> None:
    got = hidden(new, past + new, of(limits), torch.device("cpu"))
    assert got.shape == (new, past + new)
    for row in range(new):
        for j in range(past + new):
            assert bool(got[row, j]) == (j > past + row or not seen(limits, past + row, j))


def test_without_a_limit_all_earlier_keys_are_seen() -> None:
    assert torch.equal(hidden(3, 5, None, torch.device("cpu")), torch.ones(3, 5).triu(3).bool())
    limit = Visibility(3, 1)
    assert limit.within(None) is limit


@given(limits=LIMITS, start=st.integers(0, 20), key=st.integers(0, 20), size=st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_blocks(limits: list[tuple[int, int]], start: int, key: int, size: int) -> None:
    """Nothing that is seen is left out, and a block is whole where every pair is seen."""
    first, last, keys, ends = (torch.tensor(n) for n in (start, start + size - 1, key, key + size - 1))
    some, whole = of(limits).of_blocks(first, last, keys, ends)
    pairs = [seen(limits, i, j) for i in range(start, start + size) for j in range(key, key + size)]
    assert bool(some) >= any(pairs)
    assert bool(whole) <= all(pairs)
    if len(limits) == 1 and key + size <= start:
        assert bool(some) == any(pairs)
        assert bool(whole) == all(pairs)


def test_equal_limits_are_one_key() -> None:
    """Masks of blocks are kept by what is seen."""
    assert len({of([(3, 1), (5, 0)]), of([(3, 1), (5, 0)]), of([(3, 1)])}) == 2
