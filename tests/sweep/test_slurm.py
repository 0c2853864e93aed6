"""A sweep as a job array: the script, its tasks in bash, and its submission where SLURM is."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from extrapo.errors import MachineError, UserError
from extrapo.sweep import slurm

URL = "postgresql+psycopg://me@db/sweeps"


@pytest.mark.slow
def test_the_script_is_one_slot_per_task(tmp_path: Path) -> None:
    text = slurm.script("mine", ["extrapo", "sweep", "my sweep.yaml"], 8, 2, tmp_path)
    path = tmp_path / "mine.sbatch"
    path.write_text(text)
    subprocess.run(["bash", "-n", str(path)], check=True)
    for line in (
        "#SBATCH --array=0-7",
        "#SBATCH --gpus-per-node=2",
        "#SBATCH --requeue",
        "extrapo sweep 'my sweep.yaml' &",
    ):
        assert line in text.splitlines()


def task(folder: Path, sweep: str) -> subprocess.Popen[bytes]:
    """The batch script of a sweep in bash, with a `scontrol` that writes what it is asked into `log`."""
    path = folder / "job"
    path.write_text(slurm.script("mine", ["bash", "-c", sweep], 1, 0, folder))
    (folder / "scontrol").write_text('#!/bin/sh\necho "$@" >> log\n')
    (folder / "scontrol").chmod(0o700)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "SLURM_JOB_ID": "17"}
    return subprocess.Popen(["bash", str(path)], cwd=folder, env=environment)


@pytest.mark.slow
def test_a_notice_of_slurm_stops_the_sweep_and_queues_the_task_again(tmp_path: Path) -> None:
    job = task(tmp_path, "trap 'echo saved >> log; exit 130' TERM; echo on >> log; while true; do sleep 0.05; done")
    while not (tmp_path / "log").exists():
        assert job.poll() is None
    job.terminate()
    assert job.wait(30) == 130
    assert (tmp_path / "log").read_text().split("\n")[:3] == ["on", "saved", "requeue 17"]


@pytest.mark.slow
def test_a_notice_that_comes_while_the_sweep_starts_is_heard(tmp_path: Path) -> None:
    # The sweep itself gives the notice, as early as can be: the shell may not have come to its next line.
    sweep = "trap 'echo saved >> log; exit 130' TERM; kill -TERM $PPID; while true; do sleep 0.05; done"
    for turn in range(20):
        folder = tmp_path / str(turn)
        folder.mkdir()
        assert task(folder, sweep).wait(30) == 130
        assert (folder / "log").read_text().split("\n")[:2] == ["saved", "requeue 17"]


@pytest.mark.slow
@pytest.mark.parametrize("code", [0, 1, 137])
def test_a_sweep_that_ends_without_a_notice_is_not_queued_again(code: int, tmp_path: Path) -> None:
    assert task(tmp_path, f"exit {code}").wait(30) == code
    assert not (tmp_path / "log").exists()


def test_options_of_sbatch(tmp_path: Path) -> None:
    assert slurm.parse_options([]) == {"time": "24:00:00"}
    more = slurm.parse_options(["time=1:00:00", "--partition=gpu", "comment=two words"])
    assert more == {"time": "1:00:00", "partition": "gpu", "comment": "two words"}
    lines = slurm.script("mine", ["true"], 1, 0, tmp_path, more).splitlines()
    assert {"#SBATCH --time=1:00:00", "#SBATCH --partition=gpu", "#SBATCH --comment='two words'"} <= set(lines)
    for wrong, message in [("partition", "KEY=VALUE is expected"), ("array=0-9", "the sweep sets 'array' itself")]:
        with pytest.raises(UserError, match=message):
            slurm.parse_options([wrong])


@pytest.mark.slow
def test_it_is_submitted_where_slurm_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.sbatch"
    path.write_text("#!/bin/bash\n")
    assert slurm.submit(path) is None
    sbatch = tmp_path / "sbatch"
    sbatch.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/given\necho "4711;cluster"\n')
    sbatch.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert slurm.submit(path) == "4711"
    assert (tmp_path / "given").read_text().split() == ["--parsable", str(path)]
    sbatch.write_text("#!/bin/sh\necho 'invalid partition' >&2\nexit 1\n")
    with pytest.raises(MachineError, match=r"SLURM refuses .*invalid partition"):
        slurm.submit(path)


def test_a_storage_that_machines_cannot_share() -> None:
    slurm.check_storage(URL)
    for storage in (None, "sqlite:////shared/sweeps.db"):
        with pytest.raises(UserError, match="several machines can share"):
            slurm.check_storage(storage)
