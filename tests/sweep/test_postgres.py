"""A study in PostgreSQL that two supervisors share, with a server that is restarted under them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from optuna.trial import TrialState
from sweeping import Sweep

from extrapo.cli.sweep import task_command
from extrapo.errors import UserError
from extrapo.location import Location
from extrapo.sweep import slurm
from extrapo.sweep.command import Machine
from extrapo.sweep.queue import RETURNED, STEP
from extrapo.sweep.storage import open_storage

pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'extrapo[postgres]'")
BINARIES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.chaos,
    pytest.mark.timeout(400),
    pytest.mark.skipif(BINARIES is None, reason="no PostgreSQL server on this machine"),
]


class Server:
    """A PostgreSQL server on 127.0.0.1; run by `nobody` where the tests run as root, whom PostgreSQL refuses."""

    def __init__(self, folder: Path) -> None:
        assert BINARIES is not None
        self.folder, self.binaries = folder, BINARIES
        with closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.call("initdb", "-A", "trust", "-U", "extrapo", "--no-sync", "-D", str(folder / "data"))
        self.start()

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://extrapo@127.0.0.1:{self.port}/postgres"

    def call(self, program: str, *words: str) -> None:
        user = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
        command = [str(self.binaries / program), *words]
        with (self.folder / "output").open("ab") as output:
            subprocess.run(command, check=True, cwd=self.folder, stdout=output, stderr=output, **user)  # type: ignore[call-overload]

    def control(self, *words: str) -> None:
        self.call("pg_ctl", "-D", str(self.folder / "data"), "-w", *words)

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        self.control("-l", str(self.folder / "log"), "-o", options, "start")

    def stop(self) -> None:
        self.control("-m", "immediate", "stop")


@pytest.fixture
def server() -> Iterator[Server]:
    # Not below pytest's folders, which another user may not enter.
    folder = Path(tempfile.mkdtemp(prefix="extrapo-postgres-"))
    folder.chmod(0o777)
    made = Server(folder)
    yield made
    made.control("-m", "immediate", "stop")
    shutil.rmtree(folder, ignore_errors=True)


def test_a_job_array(sweep: Sweep, server: Server) -> None:
    sweep.storage = server.url
    sweep.write({"seed": [0, 1, 2]}, fixed={"steps": 300, "val_every": 10})
    command = task_command(sweep.file, Machine(Location(sweep.root), server.url))
    script = sweep.folder / "job.sbatch"
    script.write_text(slurm.script(sweep.name, command, 2, 0, sweep.folder))
    # In the place of SLURM: a task that is to be queued again is started again.
    (sweep.folder / "scontrol").write_text("#!/bin/sh\ntouch requeued-$2\n")
    (sweep.folder / "scontrol").chmod(0o700)

    def begin(number: int) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PATH": f"{sweep.folder}:{os.environ['PATH']}", "SLURM_JOB_ID": str(number)}
        return subprocess.Popen(["bash", str(script)], cwd=sweep.folder, env=environment)

    tasks = [begin(number) for number in range(2)]
    sweep.wait_for(lambda: any(trial.user_attrs.get(STEP) for trial in sweep.running()))
    # SLURM's notice: the task saves its trial, ends, and is queued again.
    for task in tasks:
        task.terminate()
    assert [task.wait(200) for task in tasks] == [130, 130]
    assert all((sweep.folder / f"requeued-{number}").exists() for number in range(2))
    assert [begin(number).wait(380) for number in range(2)] == [0, 0]
    trials = sweep.every_cell_once(3)
    assert any(trial.user_attrs.get(RETURNED) for trial in trials)
    assert [run.info.status for run in sweep.mlflow_runs()] == ["FINISHED"] * 3


def test_two_supervisors_and_a_restarted_server(sweep: Sweep, server: Server) -> None:
    sweep.storage = server.url
    sweep.write({"kernel": ["linear", "log"], "seed": {"from": 0, "to": 3}}, fixed={"steps": 40})
    both = [sweep.start("--workers", "1"), sweep.start("--workers", "1")]
    sweep.wait_for(lambda: any(t.state == TrialState.COMPLETE for t in sweep.trials()))
    sweep.wait_for(sweep.running)
    server.stop()
    with pytest.raises(UserError, match=r"cannot open the storage postgresql\+psycopg://extrapo@127.0.0.1"):
        open_storage(server.url, sweep.root)
    server.start()
    ended = [process.communicate(timeout=280) for process in both]
    assert [process.returncode for process in both] == [0, 0], f"{ended} {sweep.logs()}"
    trials = sweep.every_cell_once(8)
    # Workers wait for the server: none of them died of it.
    assert [t.state for t in trials] == [TrialState.COMPLETE] * 8
    assert all("8/8 done" in out or "8 complete" in out for out, _ in ended)
    assert [run.info.status for run in sweep.mlflow_runs()] == ["FINISHED"] * 8
