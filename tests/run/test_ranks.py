"""Further ranks: who has gone is said, and nobody stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from small_runs import change

from extrapo.config import RunConfig
from extrapo.run import ranks
from extrapo.run.ranks import RankLost, again, gone, is_lost, watched
from extrapo.run.setup import World
from extrapo.run.trainer import make_trainer
from extrapo.tracking import runs
from processes import finish, start, wait_for


@pytest.mark.parametrize(
    ("fault", "lost"),
    [
        (torch.distributed.DistNetworkError("timed out"), True),
        (RuntimeError("[gloo/transport/tcp/pair.cc:537] Read error: Connection reset by peer"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ConnectionError("Connection reset by peer"), False),
    ],
)
def test_a_lost_connection_is_told_from_other_failures(fault: BaseException, lost: bool) -> None:
    assert is_lost(fault) == lost


def test_a_rank_runs_the_same_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["script.py", "--steps", "3"])
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    assert again() == [sys.executable, os.path.abspath("script.py"), "--steps", "3"]
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", ranks.__spec__)
    assert again() == [sys.executable, "-m", "extrapo.run.ranks", "--steps", "3"]


@pytest.fixture
def others() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Two processes that would go on for long."""
    started = [subprocess.Popen(["sleep", "600"]) for _ in range(2)]
    yield started
    for process in started:
        process.kill()
        process.wait()


def never(line: str) -> None:
    raise AssertionError(line)


@pytest.mark.slow
def test_which_one_has_gone_is_said_and_the_rest_is_ended(others: list[subprocess.Popen[bytes]]) -> None:
    others[1].kill()
    lost = RuntimeError("gloo: Connection closed by peer")
    with (
        pytest.raises(RankLost, match="process 3 of 3 of this training was ended by SIGKILL"),
        watched(others, never),
    ):
        raise lost
    assert others[0].wait(10) == -signal.SIGKILL


@pytest.mark.slow
def test_after_a_failure_the_next_training_starts_others(
    others: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch, small: RunConfig
) -> None:
    monkeypatch.setattr(ranks, "_started", others)
    monkeypatch.setenv("LOCAL_RANK", "0")
    trainer = make_trainer(small.resolved(), World("cpu", devices=1, nodes=1, rank=0), Path(small.root))
    processes = others.copy()
    with pytest.raises(ZeroDivisionError), ranks.further_ranks(trainer, never):
        _ = 1 / 0
    assert [process.wait(10) for process in processes] == [-signal.SIGKILL] * 2
    assert ranks._started == []
    assert "LOCAL_RANK" not in os.environ


@pytest.mark.slow
def test_another_failure_stays_what_it_is_and_a_success_ends_nobody(others: list[subprocess.Popen[bytes]]) -> None:
    with watched(others, never):
        pass
    assert gone(others, 0) is None
    with pytest.raises(ZeroDivisionError), watched(others, never):
        _ = 1 / 0
    assert [process.wait(10) for process in others] == [-signal.SIGKILL] * 2


@pytest.mark.slow
def test_a_training_that_waits_for_one_that_is_gone_is_ended(
    others: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranks, "GRACE", 0.2)
    told: list[str] = []
    waits = threading.Event()

    def stuck(line: str) -> None:
        told.append(line)
        waits.set()

    with watched(others, stuck):
        others[0].terminate()
        assert waits.wait(20)
    assert told == ["process 2 of 3 of this training was ended by SIGTERM"]


def begin(small: RunConfig, **values: Any) -> subprocess.Popen[str]:
    """A training of two ranks, which its terminal would end together."""
    config = change(small, devices=2, strategy="ddp", heatmaps=0, steps=100_000, val_every=50_000, **values)
    values = config.model_dump(exclude_unset=True).items()
    flags = [part for key, value in values for part in (f"--{key.replace('_', '-')}", str(value))]
    return start("fit", *flags, start_new_session=True)


def further(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The ranks that a training has started; another child, as git, has its command line until it runs its own."""
    found = []
    for child in psutil.Process(process.pid).children():
        with suppress(psutil.Error):
            if child.environ().get(ranks.FIRST) == str(process.pid):
                found.append(child)
    return found


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_ctrl_c_while_a_rank_is_loading_is_answered_by_the_first(small: RunConfig) -> None:
    process = begin(small)
    (second,) = wait_for(lambda: further(process), process)
    os.killpg(process.pid, signal.SIGINT)
    code, _, err = finish(process)
    # A second one that is slow to load is waited for, and then no longer; of the two one speaks at most.
    assert code == 130, err
    assert err.count("interrupted") <= 1, err
    (run,) = runs(small.root)
    assert run.status == "KILLED"
    second.wait(20)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_rank_that_is_killed_is_named_and_the_run_has_failed(small: RunConfig) -> None:
    process = begin(small)
    (second,) = wait_for(lambda: further(process), process)
    wait_for(lambda: any(run.store.client.get_metric_history(run.run_id, "train/loss") for run in runs(small.root)))
    second.kill()
    code, _, err = finish(process)
    # Before it a slow machine may have said that it is still loading.
    assert (code, err.count("error:"), err.count("Traceback")) == (1, 1, 0), err
    assert err.endswith("extrapo: error: process 2 of 2 of this training was ended by SIGKILL\n")
    (run,) = runs(small.root)
    assert run.status == "FAILED"


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.timeout(400)
def test_no_rank_stays_behind_when_the_first_is_killed(small: RunConfig) -> None:
    process = begin(small)
    (second,) = wait_for(lambda: further(process), process)
    process.kill()
    finish(process)
    second.wait(60)
