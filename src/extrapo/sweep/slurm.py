"""A sweep as a SLURM job array: every task is the same command with one slot; the database is all that they share."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from extrapo.errors import UserError

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

#: Seconds before the time limit at which SLURM asks a task to stop: it saves, and the task is queued again.
NOTICE = 120
#: What a task asks for unless it is told otherwise: a day.
USUAL = {"time": "24:00:00"}
#: Options of sbatch that are not the user's: the sweep depends on them.
OURS = ("job-name", "array", "nodes", "ntasks", "output", "error", "open-mode", "requeue", "signal")


def options(given: Sequence[str]) -> dict[str, str]:
    """Options of sbatch, each as KEY=VALUE, beside the usual ones.

    Raises:
        UserError: another form, or an option that the sweep sets itself.
    """
    found = dict(USUAL)
    for text in given:
        key, equals, value = text.removeprefix("--").partition("=")
        if not (key and equals and value):
            raise UserError(f"`sbatch={text!r}`: KEY=VALUE is expected, as in `sbatch='time=12:00:00'`")
        if key in OURS:
            raise UserError(f"`sbatch={text!r}`: the sweep sets '{key}' itself")
        found[key] = value
    return found


def script(
    name: str, command: Sequence[str], workers: int, gpus: int, folder: Path, more: Mapping[str, str] = USUAL
) -> str:
    """The batch script of a sweep.

    Args:
        name: of the sweep.
        command: what each task runs.
        workers: size of the array.
        gpus: devices of each task; 0 for none.
        folder: for the output of the tasks.
        more: further options of sbatch, see `options`.
    """
    lines = [
        "#!/bin/bash",
        f"#SBATCH --job-name={name}",
        f"#SBATCH --array=0-{workers - 1}",
        "#SBATCH --nodes=1",
        "#SBATCH --ntasks=1",
        *([f"#SBATCH --gpus-per-node={gpus}"] if gpus else []),
        f"#SBATCH --output={shlex.quote(str(folder))}/slurm-%A_%a.log",
        "#SBATCH --open-mode=append",
        "#SBATCH --requeue",
        f"#SBATCH --signal=B:TERM@{NOTICE}",
        *(f"#SBATCH --{key}={shlex.quote(value)}" for key, value in more.items()),
        "",
        "# SLURM's notice goes to this shell: the sweep saves its trial, gives it back to the queue, and ends.",
        "# It may come before the sweep is there; a sweep that ends for another reason is not queued again.",
        'notice() { noticed=1; if [ -n "$task" ] && [ -z "$told" ]; then told=1; kill -TERM $task; fi; }',
        "trap notice TERM",
        f"{shlex.join(command)} &",
        "task=$!",
        'if [ -n "$noticed" ]; then notice; fi',
        "wait $task; code=$?",
        'if [ -n "$noticed" ]; then',
        "  wait $task; code=$?",
        '  if [ $code -ne 0 ]; then scontrol requeue "$SLURM_JOB_ID"; fi',
        "fi",
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
            "`slurm` needs a storage that several machines can share: "
            "`storage='postgresql+psycopg://USER@HOST/DATABASE'`"
        )
    parts = [sys.executable, "-m", "extrapo", "sweep", str(file.resolve()), "--yes", "--workers", "1"]
    parts += ["--storage", storage, "--root", str(root.resolve())]
    parts += ["--tracking-uri", tracking_uri] if tracking_uri else []
    parts += ["--gpus-per-trial", str(gpus)] if gpus is not None else []
    return parts


@dataclass
class Job:
    """A task of the array as submitit runs it, on the compute node.

    Args:
        command: what it runs.
    """

    command: list[str]

    def __call__(self) -> None:
        """Run the command to its end."""
        # SLURM's notice goes to every process: this one alone hears it.
        spawned = os.posix_spawnp(self.command[0], self.command, os.environ, setsigmask=[signal.SIGUSR2])
        self._running = spawned
        code = os.waitstatus_to_exitcode(os.waitpid(spawned, 0)[1])
        if code != 0:
            raise RuntimeError(f"the sweep has ended with exit code {code}")

    def checkpoint(self) -> DelayedSubmission:
        """Time is up: the sweep saves its trial, gives it back to the queue, and ends; the task goes on later."""
        from submitit.helpers import DelayedSubmission

        os.kill(self._running, signal.SIGTERM)
        os.waitpid(self._running, 0)
        return DelayedSubmission(Job(self.command))


def submit(
    name: str, command: Sequence[str], workers: int, gpus: int, folder: Path, more: Mapping[str, str] = USUAL
) -> list[str] | None:
    """Submit the array through submitit; the job ids. None without submitit or without SLURM."""
    try:
        import submitit
    except ImportError:
        return None
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        return None
    # A task may be queued again as often as its time is up.
    executor = submitit.SlurmExecutor(folder=folder / "submitit", max_num_timeout=10_000)
    executor.update_parameters(
        job_name=name,
        array_parallelism=workers,
        nodes=1,
        ntasks_per_node=1,
        signal_delay_s=NOTICE,
        additional_parameters={"requeue": True, **more},
        **({"gpus_per_node": gpus} if gpus else {}),
    )
    with executor.batch():
        jobs = [executor.submit(Job(list(command))) for _ in range(workers)]
    return [str(job.job_id) for job in jobs]
