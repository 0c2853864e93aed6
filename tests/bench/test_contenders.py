"""What is timed, and what serves it."""

from __future__ import annotations

import pytest

from extrapo.attention import BACKENDS
from extrapo.bench.contenders import Case, attention_run, decode_run, served, step_run
from extrapo.errors import UserError


def test_what_serves_a_case() -> None:
    assert [served(Case(name, "auto", 8, 1)) for name in ("sdpa", "public-cable")] == ["-", "-"]
    for name in ("cable", "k-cable"):
        assert served(Case(name, "auto", 8, 1)) in {known.name for known in BACKENDS}
    assert served(Case("cable", "fold", 8, 1)) == "fold"
    assert served(Case("k-cable", "auto", 8, 1), "decode") == "decode"
    with pytest.raises(UserError, match="no backward pass"):
        served(Case("k-cable", "flex", 8, 1))


def test_every_kind_runs() -> None:
    case = Case("sdpa", "auto", 16, 1, heads=2, head_dim=16)
    for make, phases in (
        (attention_run, {"forward", "forward+backward"}),
        (step_run, {"step"}),
        (decode_run, {"decode"}),
    ):
        assert {*make(case)()} == phases
