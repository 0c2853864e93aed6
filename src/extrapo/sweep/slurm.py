"""A sweep as a SLURM job array: every task is the same command with one slot; the database is all that they share."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from extrapo.errors import UserError

#: Seconds before the time limit at which SLURM asks a task to stop: it saves, and the task is queued again.
NOTICE = 120


def script(name: str, command: Sequence[str], workers: int, gpus: int, folder: Path) -> str:
    """The batch script of a sweep.

    Args:
        name: of the sweep.
        command: what each task runs.
        workers: size of the array.
        gpus: devices of each task; 0 for none.
        folder: for the output of the tasks.
    """
    lines = [
        "#!/bin/bash",
        f"#SBATCH --job-name={name}",
        f"#SBATCH --array=0-{workers - 1}",
        "#SBATCH --nodes=1",
        "#SBATCH --ntasks=1",
        *([f"#SBATCH --gpus-per-node={gpus}"] if gpus else []),
        f"#SBATCH --output={folder}/slurm-%A_%a.log",
        "#SBATCH --open-mode=append",
        "#SBATCH --requeue",
        f"#SBATCH --signal=B:TERM@{NOTICE}",
        "# Partition, time and memory: `sbatch --time=24:00:00 --partition=... THIS_FILE`, or lines of your own here.",
        "",
        "# SLURM's notice goes to this shell: the sweep saves its trial, gives it back to the queue, and ends.",
        f"{shlex.join(command)} &",
        "task=$!",
        "trap 'kill -TERM $task' TERM",
        "wait $task; code=$?",
        'if [ $code -gt 128 ]; then wait $task; code=$?; scontrol requeue "$SLURM_JOB_ID"; fi',
        "exit $code",
        "",
    ]
    return "\n".join(lines)


def command(file: Path, storage: str, root: Path, tracking_uri: str | None, gpus: int | None) -> list[str]:
    """What a task of the array runs: this sweep, one slot.

    Raises:
        UserError: a storage that other machines cannot share.
    """
    if storage.startswith("sqlite"):
        raise UserError(
            "--slurm needs a storage that several machines can share: --storage postgresql+psycopg://USER@HOST/DATABASE"
        )
    parts = [sys.executable, "-m", "extrapo", "sweep", str(file.resolve()), "--yes", "--workers", "1"]
    parts += ["--storage", storage, "--root", str(root.resolve())]
    parts += ["--tracking-uri", tracking_uri] if tracking_uri else []
    parts += ["--gpus-per-trial", str(gpus)] if gpus is not None else []
    return parts


def submit(name: str, command: Sequence[str], workers: int, gpus: int, folder: Path) -> list[str] | None:
    """Submit the array through submitit; the job ids. None without submitit or without SLURM."""
    try:
        import submitit
    except ImportError:
        return None
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        return None
    executor = submitit.SlurmExecutor(folder=folder / "submitit")
    executor.update_parameters(
        job_name=name,
        array_parallelism=workers,
        nodes=1,
        ntasks_per_node=1,
        signal_delay_s=NOTICE,
        **({"gpus_per_node": gpus} if gpus else {}),
    )
    with executor.batch():
        jobs = [executor.submit(submitit.helpers.CommandFunction(list(command))) for _ in range(workers)]
    return [str(job.job_id) for job in jobs]
