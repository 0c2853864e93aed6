"""Where the papers' claims hold: the table of 2601.06113 with its corrections, and formulas that decide it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from extrapo.evaluation.theory.built import layers_of
from extrapo.evaluation.theory.table import markdown, verdict_table
from extrapo.evaluation.theory.verdicts import CLAIMS, Verdict, verdicts

PAGE = Path(__file__).parents[3] / "docs/theory.md"

#: normalisation, entropy, logit, content, by the query.
PAPERS = {
    "rope": "no no yes yes yes",
    "alibi": "yes yes local yes no",
    "adaptive": "yes yes local local yes",
    "nope": "no no yes yes no",
    "learned": "no no yes yes no",
    "t5": "no no yes yes no",
    "fire": "no no yes yes no",
    "kerple-log": "conditional conditional local yes no",
    "k-cable": "yes yes local yes no",
    "cable": "yes yes local yes no",
    "fox": "yes yes local yes no",
    "sandwich": "no no conditional yes no",
    "ssmax": "no no yes yes no",
    "accumulated-rotation": "no no yes no yes",
    "window": "yes yes local yes no",
}


@cache
def row(name: str) -> dict[str, Any]:
    (found,) = verdict_table([name])
    return found


@pytest.mark.parametrize("name", PAPERS)
def test_the_papers_table(name: str) -> None:
    found = row(name)
    assert " ".join(found[claim] for claim in CLAIMS[:5]) == PAPERS[name], found["reasons"]
    assert found["sensitivity_input"] == ("yes" if name in ("cable", "fox", "k-cable") else "no")


@pytest.mark.parametrize("name", PAPERS)
def test_the_page_has_the_table_of_today(name: str) -> None:
    line = markdown([row(name)]).splitlines()[-1]
    assert line in PAGE.read_text().splitlines(), f"docs/theory.md: put\n{line}"


def said(name: str, **options: Any) -> dict[str, Verdict]:
    (layer,) = layers_of(name, heads=2, head_dim=8, options=options)
    return verdicts(layer)


def test_options_and_kernels_count() -> None:
    (layer,) = layers_of("contextual", heads=2, head_dim=8, kernel="exp-saturating", options={"increments": "const"})
    assert verdicts(layer)["normalisation"].holds == "no"
    # A rotation by fixed angles is RoPE.
    assert said("accumulated-rotation", angles="fixed")["ldcp_content"].holds == "yes"
    assert said("accumulated-rotation+alibi")["normalisation"].holds == "yes"
    assert said("rope+window")["ldcp_logit"].holds == "local"
