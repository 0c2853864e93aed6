"""The cache of decoding: a value that grows, whoever else goes on from it."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from extrapo.encodings.core.cache import Cache


@given(sizes=st.lists(st.integers(1, 90), min_size=1, max_size=8))
@settings(max_examples=30, deadline=None)
def test_holds_what_was_appended(sizes: list[int]) -> None:
    parts = [torch.randn(2, 3, size, 4) for size in sizes]
    cache = Cache(parts[0])
    for part in parts[1:]:
        cache = cache.append(part)
    assert torch.equal(cache.tokens, torch.cat(parts, dim=2))


def test_two_texts_may_go_on_from_one_state() -> None:
    first, left, right = torch.randn(3, 1, 1, 1, 2).unbind(0)
    start = Cache(first).append(first)
    one = start.append(left)
    other = start.append(right)
    further = one.append(right)
    assert torch.equal(start.tokens, torch.cat([first, first], dim=2))
    assert torch.equal(one.tokens, torch.cat([first, first, left], dim=2))
    assert torch.equal(other.tokens, torch.cat([first, first, right], dim=2))
    assert torch.equal(further.tokens, torch.cat([first, first, left, right], dim=2))


def test_copies_stay_few() -> None:
    """4,000 appended tokens move to new memory at most seven times, from 64 tokens on."""
    cache = Cache(torch.zeros(1, 1, 1, 1))
    rooms = set()
    for _ in range(4000):
        cache = cache.append(torch.zeros(1, 1, 1, 1))
        rooms.add(cache._memory.room.data_ptr())
    assert len(rooms) <= 8
