"""The peak of a run, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from extrapo.bench.contenders import Case
from extrapo.bench.memory import Children
from processes import wait_for


@pytest.mark.slow
def test_memory_sees_a_square() -> None:
    """At T = 1,024 a (2, T, T) bias alone is 8 MiB, and public-cable keeps several; tiles keep none."""
    cases = [Case(name, "auto", 1024, 1, heads=2, head_dim=8) for name in ("public-cable", "k-cable")]
    square, linear = Children().peaks(cases, "attention")
    assert square is not None
    assert linear is not None
    assert square > 3 * 2 * 1024 * 1024 * 4
    assert linear < square / 2


#: Of minutes.
LONG = """
from extrapo.bench.contenders import Case
from extrapo.bench.memory import Children
if __name__ == "__main__":
    Children().peaks([Case("k-cable", "auto", 131072, 1, heads=8, head_dim=64)] * 2, "attention")
"""


@pytest.mark.slow
def test_no_child_stays_when_what_measures_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "long.py"
    script.write_text(LONG)
    process = subprocess.Popen([sys.executable, str(script)])
    parent = psutil.Process(process.pid)
    # The server of forks, what tracks its resources, and two that measure.
    wait_for(lambda: len(parent.children(recursive=True)) >= 4, process)
    children = parent.children(recursive=True)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=60)
    for child in alive:
        child.kill()
    assert not alive
