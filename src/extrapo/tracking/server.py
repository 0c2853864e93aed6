"""MLflow's pages on 127.0.0.1, and the links into them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from extrapo.errors import MachineError, UserError
from extrapo.tracking import views
from extrapo.tracking.store import Store, artifacts, default_uri

HOST = "127.0.0.1"
PORT = 5000
#: Seconds that the server may take to answer, and to end.
START, STOP = 90.0, 10.0


@dataclass(frozen=True)
class Server:
    """A running MLflow server; `process` is None for one that somebody else runs.

    Args:
        url: its address.
        store: the store that it serves.
        process: its process, leader of a group of its own.
    """

    url: str
    store: Store
    process: subprocess.Popen[bytes] | None

    def wait(self) -> None:
        """Until the server ends by itself."""
        if self.process is not None:
            self.process.wait()


@contextmanager
def serve(root: Path, tracking_uri: str | None = None, port: int | None = None) -> Iterator[Server]:
    """Serve the runs of a root folder while the block runs; every process ends with it, also on Ctrl-C.

    Args:
        root: folder of all runs.
        tracking_uri: another database, or an http server, which is used as it is.
        port: the port; None is 5000 or the next that is free.

    Raises:
        UserError: no database in the root, or the port is taken.
        MachineError: the server does not start.
    """
    root = Path(root).expanduser().resolve()
    store = Store.existing(root, tracking_uri)
    if store.uri.startswith(("http://", "https://")):
        yield Server(store.uri.rstrip("/"), store, None)
        return
    port = _free(port)
    report = root / "ui.log"
    with report.open("wb") as output:
        process = subprocess.Popen(
            _command(root, port),
            env=_environment(tracking_uri or default_uri(root)),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        url = f"http://{HOST}:{port}"
        _await(url, process, report)
        yield Server(url, store, process)
    finally:
        _stop(process)


def links(url: str, store: Store, run_id: str | None = None, experiment_id: str | None = None) -> dict[str, str]:
    """Addresses of the saved views, the table and a run's page, in the store's experiment or another."""
    experiment = f"{url}/#/experiments/{experiment_id or store.experiment_id}"
    runs = f"{experiment}/runs?workflowType=machine_learning"
    found = {
        "curves": f"{runs}&compareRunsMode=CHART&viewStateShareKey={views.CURVES}",
        "mean over seeds": f"{runs}&compareRunsMode=CHART&viewStateShareKey={views.SEEDS}",
        "table": f"{runs}&compareRunsMode=TABLE&viewStateShareKey={views.CURVES}",
    }
    return found | ({"run": f"{experiment}/runs/{run_id}?workflowType=machine_learning"} if run_id else {})


def _command(root: Path, port: int) -> list[str]:
    words = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    return [*words, "--default-artifact-root", str(artifacts(root))]


def _environment(uri: str) -> dict[str, str]:
    # The store's address may hold a password, and every user can read a command line.
    return {
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }


def _free(port: int | None) -> int:
    for candidate in [port] if port is not None else range(PORT, PORT + 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, candidate))
            except OSError:
                continue
            return candidate
    if port is not None:
        raise UserError(f"port {port} is taken; give another --port, or none for the next free one")
    raise MachineError(f"no free port from {PORT} to {PORT + 99}")


def _await(url: str, process: subprocess.Popen[bytes], report: Path) -> None:
    deadline = time.monotonic() + START
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urlopen(f"{url}/health", timeout=5).close()
            return
        except (URLError, TimeoutError, ConnectionError):
            time.sleep(0.1)
    said = report.read_text("utf-8", "replace").strip().splitlines() or ["nothing"]
    raise MachineError(f"the MLflow server did not start; it said: {said[-1]} (all of it in {report})")


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
