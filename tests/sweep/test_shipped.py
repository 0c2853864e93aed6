"""The sweeps that ship: each parses, and each of its cells is a model that can be built."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from documents import blocks, text
from extrapo.sweep.check import check
from extrapo.sweep.spec import read_spec

PAGE = "docs/tasks/sweep.md"
FILES = sorted((Path(__file__).parents[2] / "sweeps").glob("*.yaml"))


def test_the_sweeps_are_there() -> None:
    assert [path.stem for path in FILES] == [
        "adaptive_terms",
        "depth",
        "far_mass",
        "far_mass_control",
        "kernels",
        "novels",
        "search",
        "stories",
        "wikitext-2",
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_cell_can_be_built(path: Path) -> None:
    spec = read_spec(path)
    runs = check(spec, many=False)
    assert len({json.dumps(one.model_dump(mode="json"), sort_keys=True) for one in runs}) == len(runs)


def test_the_page_names_all_of_them() -> None:
    (paragraph,) = re.findall(r"^Shipped in .*?\n\n", text(PAGE), flags=re.DOTALL | re.MULTILINE)
    assert {path.stem for path in FILES} <= set(re.findall(r"`([\w-]+)`", paragraph))


def test_the_specifications_of_the_page_can_be_built(tmp_path: Path) -> None:
    sizes = []
    for written in blocks(PAGE, "yaml"):
        (tmp_path / "sweep.yaml").write_text(written)
        sizes.append(len(check(read_spec(tmp_path / "sweep.yaml"), many=False)))
    assert sizes == [36, 4]
