"""Measured times on disk: once, by one process, read by all; and measured anew where the file is damaged."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import pytest

from extrapo.attention.cpu.measured import Seconds, load_or_measure, machine, processor

TIMES = {"fold": 0.25, "cpu-tiles": 0.125}


def never() -> NoReturn:
    pytest.fail("measured again")


def test_it_is_measured_once(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    assert load_or_measure("a", lambda: TIMES, folder) == TIMES
    assert load_or_measure("a", never, folder) == TIMES
    other = {"fold": 0.5}
    assert load_or_measure("b", lambda: other, folder) == other, "of another attention, or another processor"
    assert load_or_measure("a", never, folder) == TIMES
    assert json.loads((folder / "measured.json").read_text()) == {"a": TIMES, "b": other}


@pytest.mark.parametrize(
    "damage", ["", "[]", "{", '{"a": 3}', '{"a": {}}', '{"a": {"fold": "fast"}}', '{"a": {"fold": -1.0}}', "\xff"]
)
def test_what_is_damaged_is_measured_anew(damage: str, tmp_path: Path) -> None:
    file = tmp_path / "measured.json"
    file.write_bytes(damage.encode("latin-1"))
    assert load_or_measure("a", lambda: TIMES, tmp_path) == TIMES
    assert json.loads(file.read_text()) == {"a": TIMES}


def test_an_interrupted_measurement_leaves_nothing(tmp_path: Path) -> None:
    load_or_measure("a", lambda: TIMES, tmp_path)

    def interrupted() -> Seconds:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_or_measure("b", interrupted, tmp_path)
    assert json.loads((tmp_path / "measured.json").read_text()) == {"a": TIMES}
    assert load_or_measure("b", lambda: TIMES, tmp_path) == TIMES, "the lock is free"
    assert {file.name for file in tmp_path.iterdir()} <= {"measured.json", "measured.lock"}


def test_who_comes_at_the_same_time_waits_and_agrees(tmp_path: Path) -> None:
    measured = []

    def measure() -> Seconds:
        measured.append(1)
        return {"fold": float(len(measured))}

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: load_or_measure("a", measure, tmp_path), range(8)))
    assert found == [{"fold": 1.0}] * 8


@pytest.mark.slow
def test_processes_agree(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from extrapo.attention.cpu.measured import load_or_measure;"
        "print(load_or_measure('a', lambda: {'fold': float(os.getpid())}, Path(sys.argv[1])))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = {process.communicate(timeout=120)[0] for process in started}
    assert [process.returncode for process in started] == [0] * 3
    assert len(said) == 1


def test_a_disk_that_refuses_is_said_and_survived(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING, "extrapo"):
        assert load_or_measure("a", lambda: TIMES, tmp_path / "file") == TIMES
    (said,) = caplog.messages
    assert "cannot be kept" in said


def test_the_machine_is_named() -> None:
    assert "torch 2" in machine()
    assert "\n" not in machine()
    assert "vectors" in processor()
