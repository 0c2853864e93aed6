"""The peak of a run, in a process of its own."""

from __future__ import annotations

import pytest

from extrapo.bench.contenders import Case
from extrapo.bench.memory import Children


@pytest.mark.slow
def test_memory_sees_a_square() -> None:
    """At T = 1,024 a (2, T, T) bias alone is 8 MiB, and public-cable keeps several; tiles keep none."""
    cases = [Case(name, "auto", 1024, 1, heads=2, head_dim=8) for name in ("public-cable", "k-cable")]
    square, linear = Children().peaks(cases, "attention")
    assert square is not None
    assert linear is not None
    assert square > 3 * 2 * 1024 * 1024 * 4
    assert linear < square / 2
