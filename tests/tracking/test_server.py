"""The pages are served, opened on the saved view in a real browser, and gone with the command."""

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil
import pytest
from mlflow import MlflowClient

from extrapo.errors import UserError
from extrapo.location import Location
from extrapo.tracking import Recorder, RunStore, server


@pytest.mark.slow
def test_the_server_answers_on_this_machine_only(served):
    assert served.url.startswith("http://127.0.0.1:")
    assert urlopen(f"{served.url}/health", timeout=10).read() == b"OK"
    with pytest.raises(HTTPError, match="403"):
        # As a page of somebody else's asks, whose name leads to this machine.
        urlopen(
            Request(f"{served.url}/api/2.0/mlflow/experiments/search", headers={"Host": "evil.example"}), timeout=10
        )
    group = [p for p in psutil.process_iter() if os.getpgid(p.pid) == served.process.pid]
    listening = {c.laddr.ip for p in group for c in p.net_connections("inet") if c.status == "LISTEN"}
    assert listening == {"127.0.0.1"}
    assert len(group) <= 4


@pytest.mark.slow
def test_two_that_start_at_once_serve_each_its_own(here, tmp_path):
    other = RunStore.open(Location(tmp_path / "runs"), experiment="of the other")
    stores = (here, other)
    with ThreadPoolExecutor(2) as pool:
        together = Barrier(2)

        def seen(store):
            together.wait()
            with server.serve(store.location) as running:
                together.wait()
                return running.url, {e.name for e in MlflowClient(running.url).search_experiments()}

        (mine, names), (theirs, others) = pool.map(seen, stores)
    assert mine != theirs
    assert "served" in names - others
    assert "of the other" in others - names


@pytest.mark.slow
def test_nothing_that_is_sent_to_the_port_becomes_a_file_in_the_present_folder(served):
    address = f"{served.url}/api/2.0/mlflow-artifacts/artifacts/x/y.txt"
    with pytest.raises(HTTPError):
        urlopen(Request(address, data=b"planted", method="PUT"), timeout=10)
    assert not Path("mlartifacts").exists()


@pytest.mark.slow
def test_runs_are_recorded_over_http_as_well(served, rows, biases):
    store = RunStore.open(Location(served.store.root, served.url), experiment="over http")
    recorder = Recorder.start(store, "remote", config={"encoding": "rope"})
    recorder.heatmaps(0, biases(1))
    recorder.curve(rows({64: 8.0}), train_length=64, encoding="rope", step=1)
    recorder.finish("FAILED")
    Recorder.resume(store, recorder.run_id)
    run = store.client.get_run(store.find("remote"))
    assert (run.info.status, bool(run.info.end_time)) == ("RUNNING", False)
    assert run.data.metrics["extrapolation/ppl"] == 8.0
    with server.serve(Location(store.root, served.url)) as remote:
        assert (remote.url, remote.process) == (served.url, None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 7), pytest.param(signal.SIGKILL, -signal.SIGKILL, marks=pytest.mark.chaos)]
)
def test_ctrl_c_and_a_kill_end_every_process(here, number, code):
    program = (
        "import signal, sys; from pathlib import Path\n"
        "from extrapo.location import Location\n"
        "from extrapo.tracking import server\n"
        # A test run in the background of a shell starts with SIGINT ignored, and its children with it.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "try:\n"
        "    with server.serve(Location(Path(sys.argv[1]))) as running:\n"
        "        print(running.process.pid, flush=True); running.process.wait()\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(7)\n"
    )
    command = [sys.executable, "-c", program, str(here.location.root)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    leader = int(child.stdout.readline())
    child.send_signal(number)
    assert child.wait(30) == code
    deadline = time.monotonic() + 10
    while alive := [p for p in psutil.pids() if psutil.pid_exists(p) and group_of(p) == leader]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.1)


def group_of(pid):
    try:
        return None if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE else os.getpgid(pid)
    except (psutil.NoSuchProcess, ProcessLookupError):
        return None


def test_a_root_without_a_database_is_said(tmp_path):
    with pytest.raises(UserError, match="extrapo fit"), server.serve(Location(tmp_path)):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_was_asked_for_and_is_taken_is_said(store):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} is taken"), server.serve(store.location, port=port):
            pass


def test_the_links_lead_into_the_experiment(store):
    found = server.links("http://127.0.0.1:5000", store, "abc")
    experiment = f"http://127.0.0.1:5000/#/experiments/{store.experiment_id}/runs"
    assert all(url.startswith(experiment) for url in found.values())
    assert "viewStateShareKey=extrapo-curves" in found["curves"]
    assert "/runs/abc?" in found["run"]
    assert "run" not in server.links("http://127.0.0.1:5000", store)
    assert "table" not in found
    beside = server.links("http://127.0.0.1:5000", store, cells_id="7")
    assert beside["table"].startswith("http://127.0.0.1:5000/#/experiments/7/runs")
