"""A sweep as a job array: the script, and its submission through submitit where SLURM is there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_a_notice_of_slurm_stops_the_sweep_and_queues_the_task_again(tmp_path: Path) -> None:
    sweep = "trap 'echo saved >> log; exit 130' TERM; echo on >> log; while true; do sleep 0.05; done"
    path = tmp_path / "job"
    path.write_text(slurm.script("mine", ["bash", "-c", sweep], 1, 0, tmp_path))
    (tmp_path / "scontrol").write_text('#!/bin/sh\necho "$@" >> log\n')
    (tmp_path / "scontrol").chmod(0o700)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "17"}
    job = subprocess.Popen(["bash", str(path)], cwd=tmp_path, env=environment)
    while not (tmp_path / "log").exists():
        assert job.poll() is None
    job.terminate()
    assert job.wait(30) == 130
    assert (tmp_path / "log").read_text().split("\n")[:3] == ["on", "saved", "requeue 17"]


def test_submission_through_submitit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed: pip install 'extrapo[slurm]'")
    for name, text in (("sbatch", f'cat "$1" > {tmp_path}/given; echo "Submitted batch job 4711"'), ("srun", "")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o700)
    assert slurm.submit("mine", ["true"], 2, 0, tmp_path) is None
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    jobs = slurm.submit("mine", ["extrapo", "sweep", "mine.yaml"], 2, 1, tmp_path)
    assert jobs == ["4711_0", "4711_1"]
    given = (tmp_path / "given").read_text()
    assert "#SBATCH --array=0-1%2" in given
    assert "#SBATCH --gpus-per-node=1" in given
