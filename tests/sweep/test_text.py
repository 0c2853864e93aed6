"""Values, cells and durations as people read them."""

from __future__ import annotations

import math

from extrapo.sweep.text import format_cell, format_duration, format_mean


def test_durations() -> None:
    assert [format_duration(seconds) for seconds in (3, 600, 7200)] == ["3 s", "10 min", "2.0 h"]


def test_means() -> None:
    numbers = [format_mean(23.456789, 0.123), format_mean(123456.7), format_mean(math.inf)]
    assert numbers == ["23.457 ± 0.12", "123,457", "inf"]


def test_a_cell_is_a_line() -> None:
    assert format_cell({"kernel": "log", "lr": 0.00123456789, "seed": 0}) == "kernel log, lr 0.001235, seed 0"
