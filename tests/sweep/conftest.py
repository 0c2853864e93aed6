"""Sweeps of their own for the tests of this folder; nothing they start outlives them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from sweeping import Sweep


@pytest.fixture
def sweep(tmp_path: Path, text: Path) -> Iterator[Sweep]:
    made = Sweep(tmp_path, text)
    yield made
    for process in made.started:
        if process.poll() is None:
            process.kill()
            process.communicate()
    for trial in made.running():
        pid = made.pid(trial)
        if pid is not None:
            psutil.Process(pid).kill()
