"""The page is one file of a stated size; what does not fit is left out in order, and the page says so."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from extrapo.evaluation.look import LayerLook
from extrapo.figures.explorer import explorer_page
from extrapo.figures.explorer.page import template

ABOUT = {"encoding": "k-cable", "run": "a run", "train_length": 16, "corpus": "a text"}
Drawn = Callable[..., LayerLook]


def meta(page: str) -> dict[str, object]:
    found = re.search(r'id="meta">(.*?)</script>', page)
    assert found is not None
    return json.loads(found[1])


def test_one_file_that_asks_for_nothing(drawn: Drawn) -> None:
    page = explorer_page({0: [drawn()], 9: [drawn(seed=1)]}, ["a"] * 16, about=ABOUT)
    assert not re.search(r"https?:|src=|href=|@import|\burl\(", page)
    assert "default-src 'none'" in page
    assert meta(page)["steps"] == [0, 9]
    assert page.count('id="chunk-') == 2
    assert "<!--" not in page
    assert "/*js*/" not in page


def test_no_token_ends_an_element(drawn: Drawn) -> None:
    tokens = ["</script><script>alert(1)</script>", "<!--", *["b"] * 14]
    page = explorer_page({0: [drawn()]}, tokens, about={**ABOUT, "run": "<b>"})
    assert page.count("</script>") == template().count("</script>") + 2
    assert meta(page)["tokens"][:2] == tokens[:2]


def test_what_does_not_fit_is_left_out_in_order(drawn: Drawn) -> None:
    looks = {step: [drawn(length=32, seed=step) for _ in range(2)] for step in range(6)}
    sizes = []
    for room in (10**7, 60_000, 26_000, 9_000, 3_000):
        page = explorer_page(looks, ["a"] * 32, about=ABOUT, limit=len(template()) + 40_000 + room)
        data = sum(map(len, re.findall(r'id="chunk-[^>]*>([^<]*)', page)))
        found = meta(page)
        assert data <= room
        assert found["recorded_steps"] == 6
        sizes.append((found["precision"] <= 2**-11, len(found["steps"]), len(found["tokens"])))
    assert sizes[0] == (True, 6, 32)
    assert sizes[1] == (False, 6, 32)
    assert 1 < sizes[2][1] < 6
    assert sizes[-1][1] == 1
    assert sizes[-1][2] < 32
    assert sizes == sorted(sizes, reverse=True)


def test_the_most_that_is_promised_fits(drawn: Drawn) -> None:
    """12 layers of 12 heads on 128 tokens, at two steps of a training."""
    layers = [drawn(12, 128, seed) for seed in range(12)]
    page = explorer_page({0: layers}, ["token"] * 128, about=ABOUT)
    assert len(page.encode()) < 5_000_000
    assert len(meta(page)["tokens"]) == 128
