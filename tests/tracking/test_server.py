"""The pages are served, opened on the saved view in a real browser, and gone with the command."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from urllib.error import HTTPError
from urllib.parse import urljoin
from urllib.request import Request, urlopen

import psutil
import pytest
from mlflow import MlflowClient

from extrapo.errors import UserError
from extrapo.location import Location
from extrapo.tracking import Recorder, RunStore, server
from extrapo.tracking.curves import DOUBLINGS
from extrapo.tracking.pages import bring_up_to_date

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def here(store, rows, biases):
    """Two finished runs with curves and heatmaps, in an experiment of their own."""
    here = RunStore.open(store.location, experiment="served")
    for seed, encoding in enumerate(("alibi", "k-cable")):
        config = {"encoding": encoding, "layers": 2, "seed": seed, "steps": 300}
        recorder = Recorder.start(here, f"{encoding}-served", config=config)
        for step in (0, 300):
            recorder.heatmaps(step, biases(2, slope=-1.0 - step))
        curve = rows({64: 8.0, 128: 8.5 + seed, 256: 9.0 + 4 * seed})
        recorder.curve(curve, train_length=64, encoding=encoding, step=300)
        recorder.finish("FINISHED")
    return here


@pytest.fixture(scope="module")
def served(here):
    with server.serve(here.location) as running:
        yield running


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
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: the pages cannot be opened")
def test_the_links_open_on_what_they_say(here, served):
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e '.[dev]'")
    cells = bring_up_to_date(here, here.experiment_id)
    addresses = server.links(served.url, here, here.find("alibi-served"), cells_id=cells)
    arguments = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-dev-shm-usage",
    ]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        page = browser.new_page(viewport={"width": 1600, "height": 2200})
        page.set_default_timeout(60_000)
        requested = []
        page.on("request", lambda request: requested.append(request.url))

        page.goto(addresses["curves"])
        page.get_by_text("perplexity against length").wait_for()
        page.wait_for_function("document.querySelectorAll('.js-plotly-plot').length >= 4")
        over_t, ratio, tokens, _ = (drawn(plot) for plot in page.locator(".js-plotly-plot").all()[:4])
        assert (over_t["title"], over_t["axes"]) == (DOUBLINGS, ["linear", "log"])
        assert {"0", "1", "2"} <= set(over_t["ticks"])
        assert sorted(over_t["lines"]) == [["#7b3fc4", [0, 1, 2]], ["#ff8c1a", [0, 1, 2]]]
        assert ratio["least"] == 1.0
        assert tokens["axes"] == ["log", "log"]
        assert sorted(tokens["lines"]) == [["#7b3fc4", [64, 128, 256]], ["#ff8c1a", [64, 128, 256]]]
        pictures = page.locator("img[src*=get-artifact]")
        pictures.nth(3).wait_for()
        page.wait_for_function(
            "[...document.querySelectorAll('img[src*=get-artifact]')].every(i => i.naturalWidth > 100)"
        )
        assert pictures.count() == 4
        assert pictures.evaluate_all("all => all.every(i => i.naturalWidth == i.naturalHeight)")
        assert page.get_by_text("No image logged at this step").count() == 0

        page.goto("about:blank")
        page.goto(addresses["table"])
        page.get_by_text("k-cable", exact=True).wait_for()
        page.get_by_text("ppl 256", exact=True).wait_for()
        page.get_by_text("9.00", exact=True).wait_for()

        page.goto("about:blank")
        page.goto(addresses["mean over seeds"])
        page.get_by_text(re.compile("Group: k-cable, 2 layers")).wait_for()

        page.goto("about:blank")
        page.goto(addresses["run"])
        own = page.get_by_role("link", name="Heatmaps and curve of this run").get_attribute("href")
        page.goto("about:blank")
        page.goto(urljoin(served.url, own))
        page.wait_for_function("document.querySelectorAll('.js-plotly-plot').length >= 1")
        assert drawn(page.locator(".js-plotly-plot").first)["title"] == DOUBLINGS
        page.locator("img[src*=get-artifact]").nth(1).wait_for()
        assert page.get_by_text("k-cable-served", exact=True).count() == 0
        browser.close()
    local = (served.url, "data:", "blob:", "about:")
    assert [url for url in requested if not url.startswith(local)] == []


def drawn(plot):
    """What a chart shows: the title of its abscissa, axes, ticks, lines with their colours, and the least ordinate."""
    return plot.evaluate(
        """p => ({
            title: p._fullLayout.xaxis.title.text,
            axes: [p._fullLayout.xaxis.type, p._fullLayout.yaxis.type],
            ticks: [...p.querySelectorAll('.xtick text')].map(t => t.textContent),
            lines: p._fullData.filter(l => l.mode.includes('markers')).map(l => [l.marker.color, Array.from(l.x)]),
            least: Math.min(...p._fullData.flatMap(l => Array.from(l.y))),
        })"""
    )


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
        "        print(running.process.pid, flush=True); running.wait()\n"
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
