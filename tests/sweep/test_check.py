"""Mistakes that are found before anything is written: each cell's model can be built."""

from __future__ import annotations

from typing import Any

import pytest

from extrapo.errors import UserError
from extrapo.sweep.check import check
from extrapo.sweep.spec import SweepSpec


def spec(**changes: Any) -> SweepSpec:
    return SweepSpec(**{"name": "mine", "space": {"layers": [2, 4]}, "objective": "ppl@2T", **changes})


def test_encodings_per_layer_can_be_built() -> None:
    runs = check(spec(space={"encoding": ["rope+window:3,nope:1", "cable"]}, fixed={"layers": 4}), many=False)
    assert [run.encoding for run in runs] == ["rope+window:3,nope:1", "cable"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": {"encoding": ["rope:3,noep:1"]}, "fixed": {"layers": 4}}, "unknown encoding 'noep'.* in the cell"),
        ({"space": {"encoding": ["rope:3,nope:1"]}, "fixed": {"layers": 2}}, "names 4 layers, and the model has 2"),
        ({"space": {"swap_to": ["noep"]}, "fixed": {"encoding": "rope"}}, "unknown encoding 'noep'"),
        ({"space": {"seed": {"from": 0, "to": 2000}}}, "has 2,001 cells: give `many=True`"),
    ],
)
def test_a_mistake_names_its_cell(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check(spec(**changes), many=False)
