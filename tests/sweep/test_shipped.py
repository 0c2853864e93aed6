"""The sweeps that ship: each parses, and each of its cells is a model that can be built."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from extrapo.sweep.check import check
from extrapo.sweep.spec import read_spec

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
