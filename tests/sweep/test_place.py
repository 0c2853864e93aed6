"""Processes and whether they live: numbers are used again, machines start again."""

from __future__ import annotations

import os
import subprocess
import sys

from extrapo.sweep import place
from extrapo.sweep.place import MARK


def test_this_process_lives_here() -> None:
    where = place.place()
    assert where["pid"] == os.getpid()
    assert place.is_here(where)
    assert place.is_alive(where)


def test_another_of_the_same_number_is_another() -> None:
    where = place.place()
    assert not place.is_alive({**where, "born": where["born"] - 100})
    assert not place.is_here({**where, "machine": "elsewhere"})
    assert not place.is_here({})


def test_what_a_dead_first_rank_leaves_is_ended_and_nothing_else() -> None:
    wait = [sys.executable, "-c", "import time; time.sleep(100)"]
    first = subprocess.Popen(wait, start_new_session=True)
    where = place.place(first.pid)
    left = [
        subprocess.Popen(wait, process_group=first.pid, env={**os.environ, MARK: mark}) for mark in ("mine 3", "mine 4")
    ]
    first.kill()
    first.wait()
    assert not place.is_alive(where)
    place.end_what_is_left(where, "mine 3")
    assert left[0].wait(10) < 0
    assert left[1].poll() is None
    left[1].kill()
    left[1].wait()
