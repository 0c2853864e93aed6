"""Processes and whether they live: numbers are used again, machines start again."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest

from extrapo.sweep import process
from extrapo.sweep.process import MARK


def test_this_process_lives_here() -> None:
    identity = process.identity()
    assert identity["pid"] == os.getpid()
    assert process.is_here(identity)
    assert process.is_alive(identity)


def test_another_of_the_same_number_is_another() -> None:
    identity = process.identity()
    assert not process.is_alive({**identity, "born": identity["born"] - 100})
    assert not process.is_here({**identity, "machine": "elsewhere"})
    assert not process.is_here({})


FAMILY = f"""
import os, subprocess, sys, time
wait = [sys.executable, "-c", "import time; time.sleep(100)"]
for mark in ("mine 3", "mine 4"):
    print(subprocess.Popen(wait, env={{**os.environ, {MARK!r}: mark}}).pid, flush=True)
time.sleep(100)
"""


@pytest.mark.slow
def test_what_a_dead_first_rank_leaves_is_ended_and_nothing_else() -> None:
    first = subprocess.Popen([sys.executable, "-c", FAMILY], start_new_session=True, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    identity = {**process.identity(), "pid": first.pid, "born": psutil.Process(first.pid).create_time()}
    mine, other = (psutil.Process(int(first.stdout.readline())) for _ in range(2))
    first.kill()
    first.wait()
    assert not process.is_alive(identity)
    process.kill_group(identity, "mine 3")
    psutil.wait_procs([mine], timeout=10)
    assert not mine.is_running() or mine.status() == psutil.STATUS_ZOMBIE
    assert other.is_running()
    other.kill()
