"""Protocols: which tokens are scored, and how often."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extrapo.errors import UserError
from extrapo.evaluation import PROTOCOLS, default_lengths, protocol, tokens_to_score


@given(length=st.integers(1, 60), windows=st.integers(1, 20))
def test_disjoint_scores_every_target_once(length: int, windows: int) -> None:
    plan, scored = protocol("disjoint", length), length * windows
    starts = list(plan.windows(scored))
    targets = Counter(start + 1 + offset for start in starts for offset in range(length))
    assert targets == Counter(range(1, scored + 1))
    assert plan.count(scored) == len(starts) == windows


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
@given(length=st.integers(1, 60), scored=st.integers(0, 600))
def test_windows_stay_within_the_text(name: str, length: int, scored: int) -> None:
    plan = protocol(name, length)
    starts = list(plan.windows(scored))
    assert plan.name == name
    assert plan.length == length
    assert len(starts) == plan.count(scored)
    assert all(start >= 0 and start + length <= scored for start in starts)


@given(
    train=st.integers(1, 64),
    factors=st.sets(st.sampled_from([1, 2, 4, 8, 16]), min_size=1),
    available=st.integers(1100, 5000),
    wanted=st.integers(1, 6000),
)
def test_every_length_scores_the_same_tokens(train: int, factors: set[int], available: int, wanted: int) -> None:
    lengths = [train * factor for factor in factors]
    scored = tokens_to_score(lengths, available, wanted)
    assert 1 <= scored <= available - 1
    assert scored <= max(wanted, max(lengths))
    assert scored + max(lengths) > min(wanted, available - 1), "a window more would have fitted"
    assert {protocol("disjoint", length).count(scored) * length for length in lengths} == {scored}


@given(train=st.integers(1, 10_000))
def test_default_lengths(train: int) -> None:
    lengths = default_lengths(train)
    assert lengths[1:] == [train, 2 * train, 4 * train, 8 * train, 16 * train]
    assert lengths[0] == max(1, train // 2)


def test_mistakes() -> None:
    with pytest.raises(UserError, match="must be at least 1, not 0"):
        tokens_to_score([4, 0], 100, 50)
    with pytest.raises(UserError, match="has 64 tokens, shorter than one window of 64"):
        tokens_to_score([4, 64], 64, 50)
    assert tokens_to_score([4, 64], 65, 50) == 64
    with pytest.raises(UserError, match="unknown protocol 'disjiont'; did you mean 'disjoint'"):
        protocol("disjiont", 4)
