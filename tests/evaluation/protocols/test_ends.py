"""Ends of windows: the same tokens under every length, with nearly all of it before them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extrapo.errors import UserError
from extrapo.evaluation import protocol

NAMES = ("last-k", "fixed-target")


@pytest.mark.parametrize("name", NAMES)
@given(
    lengths=st.lists(st.integers(4, 60), min_size=1, max_size=4),
    last=st.integers(1, 4) | st.none(),
    available=st.integers(61, 900),
    wanted=st.integers(1, 600),
)
def test_each_target_has_nearly_the_whole_length_before_it(
    name: str, lengths: list[int], last: int | None, available: int, wanted: int
) -> None:
    chosen = protocol(name, last=last)
    covered = chosen.cover(lengths, available, wanted)
    for length, windows in covered.items():
        assert all(window.size == length for window in windows)
        assert [window.targets for window in windows] == [window.targets for window in covered[lengths[0]]]
        (count,) = {len(window.targets) for window in windows}
        assert all(window.unscored == length - count for window in windows)
        assert count == (last or (min(256, *lengths) if name == "last-k" else max(1, min(lengths) // 4)))
        assert len(windows) * count <= max(wanted, count)


def test_windows_of_the_longest_length_stand_side_by_side() -> None:
    covered = protocol("last-k", last=8).cover([16, 64], 64 * 5 + 1, 1000)
    assert covered[64] == [(start, start + 64, start + 57) for start in range(0, 320, 64)]
    assert [window.stop for window in covered[16]] == [64, 128, 192, 256, 320]


def test_fixed_targets_are_one_stretch_of_text() -> None:
    covered = protocol("fixed-target").cover([16, 64], 1000, 100)
    targets = [target for window in covered[16] for target in window.targets]
    assert targets == list(range(61, 161))


def test_what_they_say() -> None:
    assert protocol("last-k", last=8).description == "the last 8 targets of windows that end at the same places"
    assert protocol("last-k").description.startswith("the last 256 targets (or as many as the shortest length has) of")
    assert "a quarter of the shortest length targets at a time" in protocol("fixed-target").description
    assert protocol("last-k").stride(64) is None


@pytest.mark.parametrize("name", NAMES)
def test_mistakes(name: str) -> None:
    with pytest.raises(UserError, match="a window of 8 tokens has no 9 targets"):
        protocol(name, last=9).cover([8, 16], 100, 50)
    with pytest.raises(UserError, match="scores at least 1 token of each window, not 0"):
        protocol(name, last=0)
    with pytest.raises(UserError, match="has 16 tokens, shorter than one window of 16"):
        protocol(name).cover([8, 16], 16, 50)
