"""The machine, and who else was there."""

from __future__ import annotations

import pytest

from extrapo.bench import machine as module
from extrapo.bench.machine import Load, this_machine


def test_the_machine_is_named() -> None:
    here = this_machine()
    assert here["processor"]
    assert here["cores"] >= 1
    assert here["threads"] >= 1
    assert here["vectors"]
    assert here["torch"]


def watched(monkeypatch: pytest.MonkeyPatch, others: list[float | None], clock: list[float]) -> Load:
    monkeypatch.setattr(module, "others_seconds", iter(others).__next__)
    monkeypatch.setattr("extrapo.bench.machine.time.perf_counter", iter(clock).__next__)
    load = Load()
    for _ in range(len(clock) // 2):
        with load.watching():
            pass
    return load


def test_others_are_counted_while_something_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens between is not: from 104 to 200 nobody watched."""
    load = watched(monkeypatch, [100.0, 104.0, 200.0, 202.0], [0.0, 3.0, 50.0, 51.0])
    assert load.others == pytest.approx(6 / 4)
    warning = load.warning()
    assert warning is not None
    assert "1.5 cores" in warning


def test_a_quiet_machine_is_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    assert watched(monkeypatch, [5.0, 5.1], [0.0, 10.0]).warning() is None


def test_where_the_system_does_not_say_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    load = watched(monkeypatch, [None, None], [0.0, 1.0])
    assert (load.others, load.warning(), load.row()["others"]) == (None, None, None)
