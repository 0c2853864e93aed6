"""How long the pages take: the report of 24 recorded runs, and the explorer of 12 layers of 12 heads on 128 tokens.

    python benchmarks/pages.py --root runs [--runs 24]

Wall time and, since a busy machine makes everything wait, time of the processor. Needs playwright and Chromium.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from extrapo.bench.machine import this_machine
from extrapo.evaluation.look import LayerLook
from extrapo.figures.explorer import explorer_page
from extrapo.location import Location
from extrapo.run.report import report
from extrapo.tracking import runs

LAYERS, HEADS, LENGTH = 12, 12, 128
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """What came of it, seconds by the clock, seconds of this process's processor."""
    wall, processor = time.perf_counter(), time.process_time()
    found = work()
    return found, time.perf_counter() - wall, time.process_time() - processor


def look(random: np.random.Generator) -> LayerLook:
    """A layer under K-Cable, with a clock and contents that are drawn."""
    clock = random.gamma(2.0, 0.4, (HEADS, LENGTH)).cumsum(-1)
    later = np.triu(np.ones((LENGTH, LENGTH), dtype=bool), 1)
    bias = np.where(later, -np.inf, -np.log1p((clock[:, :, None] - clock[:, None]) ** 2))
    weights = np.exp(bias + random.normal(0, 1, bias.shape))
    return LayerLook(bias.astype(np.float32), (weights / weights.sum(-1, keepdims=True)).astype(np.float32), clock)


def opened(file: Path) -> tuple[float, float]:
    """Seconds by the clock until a page can be used, and those of the processor that its process took."""
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=ARGUMENTS)
        page = browser.new_context(offline=True).new_page()
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable")
        wall = time.perf_counter()
        page.goto(file.as_uri())
        page.locator("body[data-ready]").wait_for()
        wall = time.perf_counter() - wall
        taken = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
        browser.close()
    return wall, taken["ProcessTime"]


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", type=Path, default=Path("runs"))
    parser.add_argument("--runs", type=int, default=24)
    asked = parser.parse_args()
    print(this_machine())
    random = np.random.default_rng(0)
    looks = [look(random) for _ in range(LAYERS)]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "explorer.html"
        tokens = [f" word{number}" for number in range(LENGTH)]
        about = {"encoding": "k-cable", "run": "drawn", "train_length": 64, "corpus": "drawn"}
        text, wall, processor = timed(lambda: explorer_page({300: looks}, tokens, about=about))
        file.write_text(text, encoding="utf-8")
        print(
            f"explorer: {file.stat().st_size / 1e6:.2f} MB, made in {wall:.2f} s ({processor:.2f} s of the processor)"
        )
        wall, processor = min(opened(file) for _ in range(3))
        print(f"explorer: can be used after {wall:.2f} s ({processor:.2f} s of the processor)")
        finished = [run.run_id for run in runs(asked.root) if run.status == "FINISHED" and run.curve][: asked.runs]
        written, wall, processor = timed(lambda: report(finished, Location(asked.root), output=Path(folder) / "report"))
        size = written["html"].stat().st_size / 1e6
        print(f"report of {len(finished)} runs: {wall:.1f} s ({processor:.1f} s of the processor), {size:.1f} MB")


if __name__ == "__main__":
    main()
