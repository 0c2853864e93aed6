"""A sweep as a SLURM job array: every task is the same command with one slot; the database is all that they share.

The array is a batch script that can be read, changed and submitted again with `sbatch`: nothing beside SLURM is needed.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from extrapo.errors import MachineError, UserError

#: Seconds before the time limit at which SLURM asks a task to stop: it saves, and the task is queued again.
NOTICE = 120
#: What a task asks for unless it is told otherwise: a day.
USUAL = {"time": "24:00:00"}
#: Options of sbatch that are not the user's: the sweep depends on them.
OURS = ("job-name", "array", "nodes", "ntasks", "output", "error", "open-mode", "requeue", "signal")


def parse_options(settings: Sequence[str]) -> dict[str, str]:
    """Options of sbatch, each as KEY=VALUE, beside the usual ones.

    Raises:
        UserError: another form, or an option that the sweep sets itself.
    """
    options = dict(USUAL)
    for text in settings:
        key, equals, value = text.removeprefix("--").partition("=")
        if not (key and equals and value):
            raise UserError(f"`sbatch={text!r}`: KEY=VALUE is expected, as in `sbatch='time=12:00:00'`")
        if key in OURS:
            raise UserError(f"`sbatch={text!r}`: the sweep sets '{key}' itself")
        options[key] = value
    return options


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
        more: further options of sbatch, see `parse_options`.
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


def check_storage(storage: str | None) -> None:
    """Whether the tasks of an array can share the study's database (None is SQLite in the root).

    Raises:
        UserError: they cannot.
    """
    if storage is None or storage.startswith("sqlite"):
        raise UserError(
            "a job array needs a storage that several machines can share: `storage='postgresql+psycopg://USER@HOST/DATABASE'`"
        )


def submit(script: Path) -> str | None:
    """Hand a batch script to SLURM; the number of its job, or None on a machine without SLURM.

    Raises:
        MachineError: SLURM refuses it; the message is SLURM's.
    """
    if shutil.which("sbatch") is None:
        return None
    done = subprocess.run(["sbatch", "--parsable", str(script)], capture_output=True, text=True)
    if done.returncode:
        raise MachineError(f"SLURM refuses {script}: {done.stderr.strip()}")
    # On a federation the cluster's name follows.
    return done.stdout.strip().partition(";")[0]
