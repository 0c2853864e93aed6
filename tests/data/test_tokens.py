"""Ids in several files are read as in one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extrapo.data.tokens import SHORT, TokenArray, windows


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.integers(-3, 60), st.integers(-3, 60))
def test_slices_are_those_of_one_array(sizes: list[int], start: int, stop: int) -> None:
    whole = np.arange(sum(sizes), dtype=np.uint16)
    pieces = TokenArray(np.split(whole, np.cumsum(sizes)[:-1]))
    assert len(pieces) == len(whole)
    assert np.array_equal(pieces[start:stop], whole[start:stop])
    assert np.array_equal(np.asarray(pieces), whole)
    assert [pieces[i] for i in range(len(whole))] == whole.tolist()
    with pytest.raises(IndexError):
        pieces[len(whole)]


@pytest.mark.parametrize("size", [1, 5, SHORT, SHORT + 1, 700])
def test_windows_are_stretches(size: int) -> None:
    whole = np.arange(3000, dtype=np.uint16)
    starts = np.random.default_rng(0).permutation(3000 - size)[:64]
    plain = np.stack([whole[start : start + size] for start in starts]).astype(np.int64)
    for tokens in (whole, TokenArray([whole]), TokenArray([whole[:1000], whole[1000:1001], whole[1001:]])):
        found = windows(tokens, starts, size)
        assert found.dtype == np.int64
        assert np.array_equal(found, plain)
