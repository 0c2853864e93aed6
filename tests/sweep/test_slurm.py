"""A sweep as a job array: the script, and its submission through submitit where SLURM is there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from extrapo.errors import UserError
from extrapo.sweep import slurm

URL = "postgresql+psycopg://me@db/sweeps"


def test_the_script_is_one_slot_per_task(tmp_path: Path) -> None:
    command = slurm.command(tmp_path / "mine.yaml", URL, tmp_path / "runs", None, 2)
    assert command[:4] == [sys.executable, "-m", "extrapo", "sweep"]
    assert command[command.index("--workers") + 1] == "1"
    text = slurm.script("mine", command, 8, 2, tmp_path)
    path = tmp_path / "mine.sbatch"
    path.write_text(text)
    subprocess.run(["bash", "-n", str(path)], check=True)
    for line in ("#SBATCH --array=0-7", "#SBATCH --gpus-per-node=2", "#SBATCH --requeue"):
        assert line in text.splitlines()


def task(folder: Path, sweep: str) -> subprocess.Popen[bytes]:
    """The batch script of a sweep in bash, with a `scontrol` that writes what it is asked into `log`."""
    path = folder / "job"
    path.write_text(slurm.script("mine", ["bash", "-c", sweep], 1, 0, folder))
    (folder / "scontrol").write_text('#!/bin/sh\necho "$@" >> log\n')
    (folder / "scontrol").chmod(0o700)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "SLURM_JOB_ID": "17"}
    return subprocess.Popen(["bash", str(path)], cwd=folder, env=environment)


def test_a_notice_of_slurm_stops_the_sweep_and_queues_the_task_again(tmp_path: Path) -> None:
    job = task(tmp_path, "trap 'echo saved >> log; exit 130' TERM; echo on >> log; while true; do sleep 0.05; done")
    while not (tmp_path / "log").exists():
        assert job.poll() is None
    job.terminate()
    assert job.wait(30) == 130
    assert (tmp_path / "log").read_text().split("\n")[:3] == ["on", "saved", "requeue 17"]


def test_a_notice_that_comes_while_the_sweep_starts_is_heard(tmp_path: Path) -> None:
    # The sweep itself gives the notice, as early as can be: the shell may not have come to its next line.
    sweep = "trap 'echo saved >> log; exit 130' TERM; kill -TERM $PPID; while true; do sleep 0.05; done"
    for turn in range(20):
        folder = tmp_path / str(turn)
        folder.mkdir()
        assert task(folder, sweep).wait(30) == 130
        assert (folder / "log").read_text().split("\n")[:2] == ["saved", "requeue 17"]


@pytest.mark.parametrize("code", [0, 1, 137])
def test_a_sweep_that_ends_without_a_notice_is_not_queued_again(code: int, tmp_path: Path) -> None:
    assert task(tmp_path, f"exit {code}").wait(30) == code
    assert not (tmp_path / "log").exists()


def test_options_of_sbatch(tmp_path: Path) -> None:
    assert slurm.options([]) == {"time": "24:00:00"}
    more = slurm.options(["time=1:00:00", "--partition=gpu", "comment=two words"])
    assert more == {"time": "1:00:00", "partition": "gpu", "comment": "two words"}
    lines = slurm.script("mine", ["true"], 1, 0, tmp_path, more).splitlines()
    assert {"#SBATCH --time=1:00:00", "#SBATCH --partition=gpu", "#SBATCH --comment='two words'"} <= set(lines)
    for wrong, message in [("partition", "KEY=VALUE is expected"), ("array=0-9", "the sweep sets 'array' itself")]:
        with pytest.raises(UserError, match=message):
            slurm.options([wrong])


def test_a_task_of_submitit_is_stopped_by_the_notice_and_goes_on(tmp_path: Path) -> None:
    submitit = pytest.importorskip("submitit", reason="submitit is not installed: pip install 'extrapo[slurm]'")
    # The first time it runs until it is told to stop, and hears nothing of the signal by which submitit is told.
    sweep = (
        "cd $0; test -f saved && { echo again >> log; exit 0; }; trap 'echo saved >> log; touch saved; exit 130' TERM; "
        "echo on >> log; while true; do sleep 0.05; done"
    )
    executor = submitit.LocalExecutor(tmp_path / "jobs", max_num_timeout=10)
    executor.update_parameters(timeout_min=0.1, signal_delay_s=5)
    job = executor.submit(slurm.Job(["bash", "-c", sweep, str(tmp_path)]))
    job.result()
    assert (tmp_path / "log").read_text().split() == ["on", "saved", "again"]


def test_a_sweep_that_fails_fails_the_task() -> None:
    with pytest.raises(RuntimeError, match="exit code 1"):
        slurm.Job(["bash", "-c", "exit 1"])()


def test_submission_through_submitit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed: pip install 'extrapo[slurm]'")
    for name, text in (("sbatch", f'cat "$1" > {tmp_path}/given; echo "Submitted batch job 4711"'), ("srun", "")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o700)
    assert slurm.submit("mine", ["true"], 2, 0, tmp_path) is None
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    more = slurm.options(["partition=gpu"])
    jobs = slurm.submit("mine", ["extrapo", "sweep", "mine.yaml"], 2, 1, tmp_path, more)
    assert jobs == ["4711_0", "4711_1"]
    given = (tmp_path / "given").read_text()
    assert "#SBATCH --array=0-1%2" in given
    for line in ("--gpus-per-node=1", "--time=24:00:00", "--partition=gpu", "--requeue", "--signal=USR2@120"):
        assert f"#SBATCH {line}" in given.splitlines()
