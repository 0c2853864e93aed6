"""MLflow's pages on 127.0.0.1, and the links into them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import psutil

from extrapo.children import SAFE
from extrapo.errors import MachineError, UserError
from extrapo.location import Location
from extrapo.tracking import cells, leash, views
from extrapo.tracking.store import RunStore, quiet

HOST = "127.0.0.1"
PORT = 5000
#: Seconds that the server may take to answer, and to end.
START, STOP = 90.0, 10.0
#: Ports to try when others take them while the server starts.
ATTEMPTS = 5


@dataclass(frozen=True)
class Server:
    """A running MLflow server; `process` is None for one that somebody else runs.

    Args:
        url: its address.
        store: the store that it serves.
        process: its process, leader of a group of its own.
        prepared: what `serve` was to do meanwhile came to.
    """

    url: str
    store: RunStore
    process: subprocess.Popen[bytes] | None
    prepared: Any = None

    def runs(self, seconds: float) -> bool:
        """Whether the server still runs after so many seconds; one that somebody else runs is not waited for."""
        if self.process is None:
            return False
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        return self.process.poll() is None


def nothing(store: RunStore) -> None:
    """Nothing is to be prepared."""


@contextmanager
def serve(
    location: Location, port: int | None = None, prepare: Callable[[RunStore], Any] = nothing
) -> Iterator[Server]:
    """Serve the runs of a location while the block runs; every process ends with it, also on Ctrl-C.

    Args:
        location: where the runs are; an http server is used as it is.
        port: the port; None is 5000 or the next that is free.
        prepare: what is done with the store while the server loads its libraries, which takes seconds.

    Raises:
        UserError: no database in the root, or the port is taken.
        MachineError: the server does not start.
    """
    if location.is_server:
        store = RunStore.existing(location)
        yield Server(location.uri.rstrip("/"), store, None, prepare(store))
        return
    RunStore.check_existing(location)
    quiet()
    server = _start(location, port, prepare)
    try:
        yield server
    finally:
        assert server.process is not None
        _stop(server.process)


def links(
    url: str,
    store: RunStore,
    run_id: str | None = None,
    experiment_id: str | None = None,
    cells_id: str | None = None,
) -> dict[str, str]:
    """Addresses of the saved views and the tables of an experiment, and of a run's page.

    Args:
        url: of the server.
        store: what it serves.
        run_id: a run to link to.
        experiment_id: of the runs; None is the store's.
        cells_id: the experiment of its cells, see `tracking.cells`.
    """
    runs = f"{url}/#/experiments/{experiment_id or store.experiment_id}/runs"
    found = {
        "curves": views.address(runs, "CHART", views.CURVES),
        "heatmaps": views.address(runs, "CHART", views.HEATMAPS),
        "mean over seeds": views.address(runs, "CHART", views.SEEDS),
    }
    if cells_id is not None:
        of_cells = f"{url}/#/experiments/{cells_id}/runs"
        found |= {
            "cells": views.address(of_cells, "CHART", cells.VIEW),
            "table": views.address(of_cells, "TABLE", cells.VIEW),
        }
    found["runs"] = views.address(runs, "TABLE", views.CURVES)
    if run_id is not None:
        found["one run"] = views.of_run(runs, run_id)
        found["run"] = f"{runs}/{run_id}?workflowType=machine_learning"
    return found


def _start(location: Location, wanted: int | None, prepare: Callable[[RunStore], Any]) -> Server:
    """A server that answers; a port that somebody else takes while it starts is left to them."""
    report = location.root / "ui.log"
    store: RunStore | None = None
    for _ in range(ATTEMPTS):
        port = _free(wanted)
        with report.open("wb") as output:
            process = subprocess.Popen(
                _command(location.artifacts, port),
                env=_environment(location.uri),
                # Held until this process ends, even by SIGKILL: see there.
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            if store is None:
                store = RunStore.existing(location)
                prepared = prepare(store)
            answered = _answers(port, process)
        except BaseException:
            _stop(process)
            # Nothing was served, and nothing is to be read of it.
            report.unlink(missing_ok=True)
            raise
        if answered:
            return Server(f"http://{HOST}:{port}", store, process, prepared)
        _stop(process)
        log = report.read_text("utf-8", "replace")
        # Who took the port may have left it since.
        if _is_free(port) and "address already in use" not in log:
            break
    lines = log.strip().splitlines() or ["nothing"]
    raise MachineError(f"the MLflow server did not start; it said: {lines[-1]} (all of it in {report})")


def _command(artifacts: Path, port: int) -> list[str]:
    # Isolated, so that no module beside the script has the name of one of Python's.
    held = [sys.executable, "-I", leash.__file__]
    words = [*held, sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    # What comes through the port is not to be written to a folder `mlartifacts` where the command was typed.
    return [*words, "--default-artifact-root", str(artifacts), "--no-serve-artifacts"]


def _environment(uri: str) -> dict[str, str]:
    # The store's address may hold a password, and every user can read a command line.
    return {
        **os.environ,
        **SAFE,
        # Uvicorn looks for modules in a folder of its own choice, the present one, before all others.
        "UVICORN_APP_DIR": os.devnull,
        "MLFLOW_BACKEND_STORE_URI": uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }


def _free(port: int | None) -> int:
    for candidate in [port] if port is not None else range(PORT, PORT + 100):
        if _is_free(candidate):
            return candidate
    if port is not None:
        raise UserError(f"port {port} is taken; give another `port`, or none for the next free one")
    raise MachineError(f"no free port from {PORT} to {PORT + 99}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def _answers(port: int, process: subprocess.Popen[bytes]) -> bool:
    """Whether this very server comes to answer: the port alone may be another's who was faster."""
    deadline = time.monotonic() + START
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urlopen(f"http://{HOST}:{port}/health", timeout=5).close()
            if port in _listening(process.pid):
                return True
        except (URLError, TimeoutError, ConnectionError):
            pass
        time.sleep(0.1)
    return False


def _listening(leader: int) -> set[int]:
    """The ports on which a process or a child of it listens."""
    ports: set[int] = set()
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(leader)
        for process in (parent, *parent.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                inet = process.net_connections("inet")
                ports |= {c.laddr.port for c in inet if c.status == psutil.CONN_LISTEN}
    return ports


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the whole group: the server's workers outlive their parent otherwise."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(STOP)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
