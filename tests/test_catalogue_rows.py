"""What `extrapo list` shows: a row for everything there is, and true."""

from __future__ import annotations

import json
from typing import Any

import pytest

from extrapo import attention, catalogue, encodings, kernels
from extrapo.options import choices, option_adapters

KEYS = ["name", "paper", "positions", "transform", "kernel", "impls", "parameters", "summary"]
ENCODING = [*KEYS, "year", "content", "state", "certainty", "translation_invariant", "exempt"]
KERNEL = [*KEYS, "monotone", "summable", "cpd"]


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in catalogue.encodings()}


def test_every_encoding_has_a_row(rows: dict[str, dict[str, Any]]) -> None:
    assert list(rows) == encodings.names()
    assert all(list(row) == ENCODING for row in rows.values())
    for name, row in rows.items():
        assert row["summary"], name
        assert row["content"] in ("static", "contextual"), name
        assert isinstance(row["year"], int), name
        assert ("reconstruction" in row["summary"]) == (row["certainty"] == "reconstruction"), name
    json.dumps(list(rows.values()))


def test_every_kernel_has_a_row() -> None:
    found = catalogue.kernels()
    assert [row["name"] for row in found] == kernels.names()
    assert all(sorted(row) == sorted(KERNEL) for row in found)
    assert all(row["summary"] and row["paper"] for row in found)
    json.dumps(found)


def test_the_catalogue_is_the_field(rows: dict[str, dict[str, Any]]) -> None:
    assert len(rows) >= 45
    assert len(kernels.names()) >= 20


@pytest.mark.parametrize("name", ["k-cable", "path-fox", "rope+k-cable"])
def test_a_card_says_what_there_is_to_know(name: str) -> None:
    said = "\n".join(catalogue.card(name))
    for part in encodings.split(name):
        assert part in said
        assert encodings.paper(part).source in said
        assert all(f"{option}=" in said for option in option_adapters(encodings.get(part)))
        assert all(f" ({', '.join(words)})" in said for words in choices(encodings.get(part)).values())


@pytest.mark.parametrize("name", encodings.names())
def test_a_card_says_what_auto_takes(name: str, rows: dict[str, dict[str, Any]]) -> None:
    (line,) = [line for line in catalogue.card(name) if line.startswith("auto: ")]
    impl, _, reason = line.removeprefix("auto:").strip().partition(" on 1,024 tokens in evaluation: ")
    assert impl in rows[name]["impls"]
    assert reason


def test_what_serves_them(rows: dict[str, dict[str, Any]]) -> None:
    """In the order of the list of back ends, on a text: `decode` is for one query."""
    order = [known.name for known in attention.BACKENDS]
    for name, row in rows.items():
        assert row["impls"] == [impl for impl in order if impl in row["impls"]], name
        assert {"tiles", "reference"} <= set(row["impls"]), name
        assert "decode" not in row["impls"], name
    folded = {name for name, row in rows.items() if "fold" in row["impls"]}
    assert {"alibi", "cable", "cable-weighted", "nope", "rope"} <= folded
    assert not {"k-cable", "kerple-log", "adaptive", "cope", "path"} & folded
    assert {"alibi", "k-cable", "rope"} <= {name for name, row in rows.items() if "flex" in row["impls"]}
    linear = next(row for row in catalogue.kernels() if row["name"] == "linear")
    assert "fold" in linear["impls"]


def test_parameters_of_a_layer(rows: dict[str, dict[str, Any]]) -> None:
    heads, width = 8, 512
    expected = {
        "nope": 0,
        "rope": 0,
        "alibi": 0,
        "cable": heads * (width + 1),
        "k-cable": heads * (width + 1),
        "cable-nw": heads * width,
        "cable-weighted": 2 * heads * width,
        "kerple-log": 2 * heads,
    }
    assert {name: rows[name]["parameters"] for name in expected} == expected


def test_every_source_of_text_has_a_row() -> None:
    found = catalogue.corpora()
    assert "stdlib" in {row["name"] for row in found}
    json.dumps(found)
