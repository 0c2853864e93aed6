"""Protocols: the same targets at every length, each scored once, or a clear error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extrapo.errors import UserError
from extrapo.evaluation import PROTOCOLS, Protocol, ScoredWindow, default_lengths, protocol, tokens_to_score
from extrapo.evaluation.protocols import Disjoint

#: Other tests register protocols of their own.
SHIPPED = [name for name in PROTOCOLS.names() if PROTOCOLS.get(name).__module__.startswith("extrapo.")]
LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=4)


def scored(windows: Iterable[ScoredWindow]) -> Counter[int]:
    return Counter(target for window in windows for target in range(window.first_target, window.stop + 1))


@given(length=st.integers(1, 60), windows=st.integers(1, 20))
def test_disjoint_windows_stand_side_by_side(length: int, windows: int) -> None:
    covered = protocol("disjoint").cover([length], length * windows + 1, length * windows)[length]
    assert covered == [(start, start + length, start + 1) for start in range(0, length * windows, length)]
    assert protocol("disjoint").stride(length) == length


@given(lengths=LENGTHS, first=st.integers(1, 9), count=st.integers(60, 400))
def test_disjoint_scores_any_targets_in_whole_windows(lengths: list[int], first: int, count: int) -> None:
    for length in lengths:
        windows = list(Disjoint("disjoint").windows(length, range(first, first + count)))
        assert scored(windows) == Counter(range(first, first + count))
        assert all(window.size == length for window in windows)
        assert all(window.unscored == 0 for window in windows[:-1])


@pytest.mark.parametrize("name", SHIPPED)
@given(lengths=LENGTHS, available=st.integers(200, 2000), wanted=st.integers(1, 1500))
def test_every_length_scores_the_same_targets_within_the_text(
    name: str, lengths: list[int], available: int, wanted: int
) -> None:
    covered = protocol(name).cover(lengths, available, wanted)
    assert set(covered) == set(lengths)
    targets = [scored(windows) for windows in covered.values()]
    assert all(one == targets[0] for one in targets)
    assert set(targets[0].values()) == {1}
    assert min(targets[0]) >= 1
    assert max(targets[0]) < available
    assert protocol(name).name == name


def test_lengths_that_hardly_divide_score_the_same_targets() -> None:
    covered = protocol("disjoint").cover([511, 512], 4097, 4096)
    assert [len(windows) for windows in covered.values()] == [9, 8]
    assert covered[511][-1] == ScoredWindow(start=3585, stop=4096, first_target=4089)
    assert covered[511][-1].unscored == 503


def test_what_a_protocol_reads_of_a_long_text() -> None:
    assert protocol("disjoint").tokens_read([64, 128, 4096], 32_768) == dict.fromkeys([64, 128, 4096], 32_768)
    assert protocol("disjoint").tokens_read([511, 512], 4096) == {511: 9 * 511, 512: 8 * 512}
    assert protocol("disjoint").tokens_read([64, 4096], 100) == {64: 4096, 4096: 4096}
    assert protocol("disjoint").tokens_read([], 100) == {}


@dataclass(frozen=True)
class Given(Protocol):
    """Targets 1 to 8 through the windows that are given."""

    found: Sequence[ScoredWindow] = ()
    asked: range = range(1, 9)
    description = "as given"

    def stride(self, length: int) -> None:
        return None

    def targets(self, lengths: Sequence[int], available: int, wanted: int) -> range:
        return self.asked

    def windows(self, length: int, targets: range) -> Iterator[ScoredWindow]:
        return iter(self.found)


WHOLE = [ScoredWindow(0, 4, 1), ScoredWindow(4, 8, 5)]


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        # Half a window further each time, every prediction scored: what overlapping windows do without thinking.
        ([(0, 4, 1), (2, 6, 3), (4, 8, 5)], "token 3 is scored twice"),
        ([(0, 4, 1), (0, 4, 1), (4, 8, 5)], "token 1 is scored twice"),
        ([(0, 4, 1)], "token 5 is not scored, which is at other lengths"),
        ([(0, 4, 2), (4, 8, 5)], "token 1 is not scored"),
        ([(0, 2, 1), (4, 8, 5)], "token 3 is not scored"),
        ([], "token 1 is not scored"),
        ([(0, 4, 1), (4, 8, 5), (8, 12, 9)], "scores more than the targets 1 to 8"),
        ([(0, 4, 0), (4, 8, 5)], "scores none of its own predictions"),
        ([(0, 4, 5), (4, 8, 5)], "scores none of its own predictions"),
        ([(-1, 3, 1), (4, 8, 4)], "scores none of its own predictions"),
        ([(0, 8, 1)], "shows 8 tokens at once"),
    ],
)
def test_a_protocol_that_does_not_score_each_target_once(windows: list[tuple[int, int, int]], message: str) -> None:
    given = Given("given", [ScoredWindow(*window) for window in windows])
    with pytest.raises(UserError, match=f"^protocol 'given' at length 4: .*{message}"):
        given.cover([4], 100, 8)


def test_windows_may_come_in_any_order_and_see_more_than_they_score() -> None:
    assert Given("given", WHOLE[::-1]).cover([4], 100, 8) == {4: WHOLE[::-1]}
    overlapping = [ScoredWindow(0, 4, 1), ScoredWindow(1, 5, 5), ScoredWindow(4, 8, 6)]
    assert Given("given", overlapping).cover([4], 100, 8) == {4: overlapping}


@pytest.mark.parametrize("targets", [range(8), range(1, 1), range(1, 9, 2), range(1, 101)])
def test_targets_that_the_text_does_not_have(targets: range) -> None:
    with pytest.raises(UserError, match="protocol 'given' has no targets in a text of 100 tokens"):
        replace(Given("given", WHOLE), asked=targets).cover([4], 100, 8)


@given(
    train=st.integers(1, 64),
    factors=st.sets(st.sampled_from([1, 2, 4, 8, 16]), min_size=1),
    available=st.integers(1100, 5000),
    wanted=st.integers(1, 6000),
)
def test_as_many_targets_as_every_length_divides(train: int, factors: set[int], available: int, wanted: int) -> None:
    lengths = [train * factor for factor in factors]
    count = tokens_to_score(lengths, available, wanted)
    assert 1 <= count <= available - 1
    assert count <= max(wanted, max(lengths))
    assert count + max(lengths) > min(wanted, available - 1), "a window more would have fitted"
    assert not any(count % length for length in lengths)


@given(train=st.integers(1, 10_000))
def test_default_lengths(train: int) -> None:
    lengths = default_lengths(train)
    assert lengths[1:] == [train, 2 * train, 4 * train, 8 * train, 16 * train]
    assert lengths[0] == max(1, train // 2)


def test_mistakes() -> None:
    disjoint = protocol("disjoint")
    with pytest.raises(UserError, match="no evaluation length is given"):
        disjoint.cover([], 100, 50)
    with pytest.raises(UserError, match="must be at least 1, not 0"):
        disjoint.cover([4, 0], 100, 50)
    with pytest.raises(UserError, match="has 64 tokens, shorter than one window of 64"):
        disjoint.cover([4, 64], 64, 50)
    assert tokens_to_score([4, 64], 65, 50) == 64
    with pytest.raises(UserError, match="unknown protocol 'disjiont'; did you mean 'disjoint'"):
        protocol("disjiont")
