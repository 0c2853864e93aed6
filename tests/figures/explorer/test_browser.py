"""The page in a browser without a network: it opens at once, and says of a cell what was recorded of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browsers import chromium, needs_chromium
from extrapo.evaluation.look import LayerLook
from extrapo.figures.explorer import explorer_page

pytestmark = [pytest.mark.slow, needs_chromium]
HEADS = LAYERS = 12
LENGTH = 128


@pytest.fixture(scope="module")
def layers(drawn: Callable[..., LayerLook]) -> list[LayerLook]:
    return [drawn(HEADS, LENGTH, seed, contextual=seed != 3) for seed in range(LAYERS)]


@pytest.fixture(scope="module")
def file(layers: list[LayerLook], tmp_path_factory: pytest.TempPathFactory) -> Path:
    about = {"encoding": "k-cable", "run": "a run", "train_length": 64, "corpus": "a text"}
    path = tmp_path_factory.mktemp("explorer") / "explorer.html"
    tokens = [f" word{n}" for n in range(LENGTH)]
    path.write_text(explorer_page({300: layers}, tokens, about=about), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


def ready(page: Any, state: str) -> None:
    page.locator(f"body[data-ready='{state}']").wait_for(timeout=10_000)


def point(page: Any, query: int, key: int, act: str = "move") -> None:
    box = page.locator("#map").bounding_box()
    at = [box["x"] + (key + 0.5) / LENGTH * box["width"], box["y"] + (query + 0.5) / LENGTH * box["height"]]
    page.mouse.move(*at) if act == "move" else page.touchscreen.tap(*at)


def reading(page: Any) -> dict[str, float]:
    return {name: float(text) for name, text in page.locator("#reading").evaluate("e => ({...e.dataset})").items()}


def test_a_cell_says_what_was_recorded(browser: Any, file: Path, layers: list[LayerLook], tmp_path: Path) -> None:
    context = browser.new_context(viewport={"width": 1200, "height": 1000}, offline=True)
    page = context.new_page()
    measuring = context.new_cdp_session(page)
    measuring.send("Performance.enable")
    faults, asked = [], []
    page.on("pageerror", lambda fault: faults.append(str(fault)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    page.locator("body[data-ready]").wait_for()
    # Of the processor, since a busy machine makes a page wait.
    metrics = {one["name"]: one["value"] for one in measuring.send("Performance.getMetrics")["metrics"]}
    assert 0 < metrics["ProcessTime"] < 2
    last = int(page.locator("#step").get_attribute("max"))
    for keys, layer, head in [("..]]]", 2, 3), ("[[.", 3, 1), (".....", 8, 1)]:
        for key in keys:
            page.keyboard.press(key)
        ready(page, f"{last}-{layer}-{head}-bias")
        look = layers[layer]
        point(page, 100, 37)
        said = page.locator("#reading dl").inner_text()
        assert "word100 at 100" in said
        assert "word37 at 37" in said
        assert "63 tokens" in said
        if look.positions is None:
            assert "none: positions are places" in said
            found = page.locator("#reading").evaluate("e => [Number(e.dataset.bias), Number(e.dataset.weight)]")
        else:
            values = reading(page)
            found = [values["bias"], values["weight"]]
            distance = look.positions[head, 100] - look.positions[head, 37]
            assert values["clock"] == pytest.approx(distance, rel=1e-4)
        expected = [look.bias[head, 100, 37], look.weights[head, 100, 37]]
        assert found == pytest.approx(expected, rel=2.0**-6)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+ArrowUp")
    values = reading(page)
    assert (values["query"], values["key"]) == (92, 36)
    assert values["bias"] == pytest.approx(layers[8].bias[1, 92, 36], rel=2.0**-6)
    picture = tmp_path / "explorer.png"
    page.screenshot(path=picture)
    assert len(np.unique(pixels(page))) > 40
    assert not faults
    assert {url.partition(":")[0] for url in asked} == {"file"}
    context.close()


def pixels(page: Any) -> list[int]:
    """The greens of the matrix as drawn."""
    script = (
        "c => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).filter((_, i) => i % 4 == 1)"
    )
    return page.locator("#map").evaluate(script)


def test_steps_differ(browser: Any, drawn: Callable[..., LayerLook], tmp_path: Path) -> None:
    steps = {step: [drawn(seed=step)] for step in (0, 20)}
    about = {"encoding": "k-cable", "run": "a run", "train_length": 16, "corpus": "a text"}
    path = tmp_path / "steps.html"
    path.write_text(explorer_page(steps, ["a"] * 16, about=about), encoding="utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    for key, index, step in (("b", 1, 20), ("-", 0, 0)):
        page.keyboard.press(key)
        ready(page, f"{index}-0-0-bias")
        # Where it begins: the last query and the key before it.
        assert reading(page)["bias"] == pytest.approx(steps[step][0].bias[0, 15, 14], rel=2.0**-10)
    page.close()


def test_a_phone_shows_it_by_touch_and_in_the_dark(browser: Any, file: Path, layers: list[LayerLook]) -> None:
    phone = {"width": 390, "height": 844}
    context = browser.new_context(
        viewport=phone, device_scale_factor=2, has_touch=True, is_mobile=True, color_scheme="dark", offline=True
    )
    page = context.new_page()
    page.goto(file.as_uri())
    page.locator("body[data-ready]").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= phone["width"]
    point(page, 90, 20, act="tap")
    assert reading(page)["weight"] == pytest.approx(layers[0].weights[0, 90, 20], rel=2.0**-6)
    box = page.locator("#reading dl").bounding_box()
    assert box["y"] + box["height"] <= phone["height"], "what is read is out of sight of what is touched"
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert sum(map(int, dark.removeprefix("rgb(").removesuffix(")").split(","))) < 150
    # A token of the passage is a query too.
    page.locator("#passage span").nth(50).tap()
    assert reading(page)["query"] == 50
    context.close()
