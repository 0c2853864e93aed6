"""A test run that is terminated leaves no process behind, not even one in a session of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from processes import MARK, marked, wait_for

pytestmark = pytest.mark.slow

#: What the conftest of these tests does.
CONFTEST = """
from processes import watch

def pytest_configure(config):
    config.add_cleanup(watch())
"""
#: A child, a grandchild that leads a session of its own, and a fork without a program of its own.
TEST = """
import os, subprocess, sys, time
from multiprocessing import get_context
from pathlib import Path

CHILD = '''
import subprocess, sys
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True).pid, flush=True)
input()
'''

def test_that_never_ends():
    child = subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    fork = get_context("fork").Process(target=time.sleep, args=(600,))
    fork.start()
    Path("pids.partial").write_text(f"{child.pid} {child.stdout.readline()} {fork.pid}")
    os.replace("pids.partial", "pids")
    time.sleep(600)
"""


#: A fork that begins only when its parent has been killed.
LATE_FORK = """
import os, signal, time
from processes import watch
os.register_at_fork(after_in_child=lambda: time.sleep(1))
watch()
fork = os.fork()
if fork:
    print(fork, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("number", "workers"),
    [(signal.SIGTERM, []), (signal.SIGKILL, []), (signal.SIGINT, []), (signal.SIGTERM, ["-n", "1"])],
)
def test_a_terminated_run_leaves_nothing(number: signal.Signals, workers: list[str], tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_endless.py").write_text(TEST)
    environment = {**os.environ, "PYTHONPATH": f"{Path(__file__).parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *workers, "test_endless.py"]
    run = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.DEVNULL,
        # A test run in the background of a shell starts with SIGINT ignored, and its children with it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    wait_for((tmp_path / "pids").exists)
    pids = [int(word) for word in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 3
    assert all(map(alive, pids))
    run.send_signal(number)
    run.wait(60)
    wait_for(lambda: not any(map(alive, pids)), seconds=20)


def test_a_fork_dies_whose_parent_was_dead_before_it_began() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    run = subprocess.run(
        [sys.executable, "-c", LATE_FORK], env=environment, stdout=subprocess.PIPE, text=True, timeout=60
    )
    assert run.returncode == -signal.SIGKILL
    wait_for(lambda: not alive(int(run.stdout)), seconds=20)


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_this_run_knows_its_processes() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    wait_for(lambda: child.pid in {process.pid for process in marked(os.environ[MARK])})
    child.communicate(b"\n")
    assert child.pid not in {process.pid for process in marked(os.environ[MARK])}


def test_only_a_slow_test_may_start_one(tmp_path: Path) -> None:
    conftest = Path(__file__).with_name("conftest.py").read_text()
    (tmp_path / "conftest.py").write_text(conftest)
    calls = ["subprocess.run(['true'])", "os.posix_spawn('/bin/true', ['true'], {})", "os.system('true')"]
    source = ["import os, subprocess, pytest"]
    for number, call in enumerate(calls):
        source += [f"def test_{number}(): {call}", f"@pytest.mark.slow\ndef test_slow_{number}(): {call}"]
    source += ["def test_git(): subprocess.run(['git', '--version'])"]
    (tmp_path / "test_some.py").write_text("\n".join(source))
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow\n")
    environment = {**os.environ, "PYTHONPATH": f"{Path(__file__).parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_some.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    assert "3 failed, 4 passed" in done.stdout, done.stdout
    assert done.stdout.count("is to be marked slow") >= 3
