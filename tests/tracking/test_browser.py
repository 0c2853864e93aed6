"""What a real browser shows of the served pages: the links open on what they say, files of a run on its page."""

import re
from urllib.parse import urljoin

import numpy as np
import pytest

from browsers import chromium, needs_chromium
from extrapo.evaluation.look import LayerLook
from extrapo.figures.explorer import explorer_page
from extrapo.run.report import record_report
from extrapo.tracking import Recorder, recorded_run, server
from extrapo.tracking.curves import DOUBLINGS, PICTURE
from extrapo.tracking.pages import bring_up_to_date

pytestmark = [pytest.mark.slow, needs_chromium]


@pytest.fixture(scope="module")
def page():
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1600, "height": 2200})
        page.set_default_timeout(60_000)
        yield page


def test_the_links_open_on_what_they_say(here, served, page, tmp_path):
    cells = bring_up_to_date(here, here.experiment_id)
    addresses = server.links(served.url, here, here.find("alibi-served"), cells_id=cells)
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
    page.wait_for_function("[...document.querySelectorAll('img[src*=get-artifact]')].every(i => i.naturalWidth > 100)")
    assert pictures.count() == 4
    assert pictures.evaluate_all("all => all.every(i => i.naturalWidth == i.naturalHeight)")
    assert page.get_by_text("No image logged at this step").count() == 0
    page.screenshot(path=tmp_path / "curves.png")

    page.goto("about:blank")
    page.goto(addresses["table"])
    page.get_by_text("k-cable", exact=True).wait_for()
    page.get_by_text("ppl 256", exact=True).wait_for()
    page.get_by_text("9.00", exact=True).wait_for()
    page.screenshot(path=tmp_path / "table.png")

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
    local = (served.url, "data:", "blob:", "about:")
    assert [url for url in requested if not url.startswith(local)] == []


def test_explorer_and_report_work_in_the_frame_of_the_artifacts(here, served, page, tmp_path):
    """MLflow shows them in a sandbox that lets scripts run and nothing else."""
    recorder = Recorder(here, here.find("k-cable-served"))
    later = np.triu(np.ones((32, 32), dtype=bool), 1)
    bias = np.where(later, -np.inf, np.random.default_rng(0).normal(size=(3, 32, 32))).astype(np.float32)
    weights = np.exp(bias) / np.exp(bias).sum(-1, keepdims=True)
    about = {"encoding": "k-cable", "run": "a run", "train_length": 16, "corpus": "a text"}
    tokens = [f" word{n}" for n in range(32)]
    recorder.file("explorer.html", explorer_page({300: [LayerLook(bias, weights)] * 2}, tokens, about=about))
    record_report(recorder, recorded_run(here, recorder.run_id), recorder.folder / PICTURE)
    artifacts = f"{served.url}/#/experiments/{here.experiment_id}/runs/{recorder.run_id}/artifacts"
    requested, faults = [], []
    page.on("request", lambda request: requested.append(request.url))
    page.on("pageerror", lambda fault: faults.append(str(fault)))

    page.goto("about:blank")
    page.goto(f"{artifacts}/explorer.html")
    frame = page.locator("iframe[sandbox='allow-scripts']")
    inside = frame.content_frame
    inside.locator("body[data-ready]").wait_for()
    shown = inside.locator("#map").bounding_box()
    for query, key in ((20, 7), (31, 0)):
        page.mouse.move(
            shown["x"] + (key + 0.5) / 32 * shown["width"], shown["y"] + (query + 0.5) / 32 * shown["height"]
        )
        reading = inside.locator("#reading dl")
        assert f"word{key} at {key}" in reading.inner_text()
        values = inside.locator("#reading").evaluate("e => [Number(e.dataset.bias), Number(e.dataset.weight)]")
        assert values == pytest.approx([bias[0, query, key], weights[0, query, key]], rel=2.0**-10)
    box, whole = reading.bounding_box(), frame.bounding_box()
    assert box["y"] + box["height"] <= whole["y"] + whole["height"], "what is read is out of sight"
    page.mouse.down()
    page.mouse.up()
    page.keyboard.press(".")
    inside.locator("body[data-ready='0-1-0-bias']").wait_for()
    page.screenshot(path=tmp_path / "explorer.png")

    page.goto("about:blank")
    page.goto(f"{artifacts}/report.html")
    picture = inside.get_by_role("img").first
    picture.wait_for()
    assert picture.evaluate("i => i.complete && i.naturalWidth > 100")
    assert "13.00" in inside.locator("table").first.inner_text()
    inside.get_by_role("link", name="Settings").click()
    top = inside.get_by_role("heading", name="Settings").bounding_box()["y"] - frame.bounding_box()["y"]
    assert -1 <= top < frame.bounding_box()["height"]
    page.screenshot(path=tmp_path / "report.png")
    local = (served.url, "data:", "blob:", "about:")
    assert [url for url in requested if not url.startswith(local)] == []
    assert not faults


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
