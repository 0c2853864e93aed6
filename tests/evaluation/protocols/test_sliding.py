"""Sliding windows: all that is new, with a past that is never shorter than length less stride."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extrapo.errors import UserError
from extrapo.evaluation import protocol


@given(
    lengths=st.lists(st.integers(4, 60), min_size=1, max_size=3),
    step=st.integers(1, 4) | st.none(),
    count=st.integers(60, 300),
)
def test_after_the_first_window_each_target_has_nearly_the_length(
    lengths: list[int], step: int | None, count: int
) -> None:
    sliding = protocol("sliding", step=step)
    for length, windows in sliding.cover(lengths, count + 1, count).items():
        assert windows[0] == (0, length, 1)
        assert all(window.size == length for window in windows)
        moves = step or length // 2
        assert sliding.stride(length) == moves
        assert all(window.unscored >= length - moves for window in windows[1:])
        assert [b.start - a.start for a, b in pairwise(windows[:-1])] == [moves] * max(0, len(windows) - 2)


def test_what_it_says() -> None:
    assert protocol("sliding").description == "sliding windows, stride = length / 2, what is new is scored"
    assert protocol("sliding", step=512).description == "sliding windows, stride = 512, what is new is scored"


def test_mistakes() -> None:
    with pytest.raises(UserError, match="a stride of 9 leaves targets out at length 8"):
        protocol("sliding", step=9).cover([8, 16], 100, 50)
    with pytest.raises(UserError, match="the stride must be at least 1, not 0"):
        protocol("sliding", step=0)
    with pytest.raises(UserError, match="has 16 tokens, shorter than one window of 16"):
        protocol("sliding").cover([8, 16], 16, 50)
    with pytest.raises(UserError, match="protocol 'sliding' has no option 'last', only step"):
        protocol("sliding", last=4)
    with pytest.raises(UserError, match=r"protocol 'disjoint' has no option 'step'$"):
        protocol("disjoint", step=4)
