"""The study of a sweep is one question, under one name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from extrapo.errors import UserError
from extrapo.sweep.spec import SweepSpec
from extrapo.sweep.storage import open_storage
from extrapo.sweep.study import create_study, load_study


def spec(**changes: Any) -> SweepSpec:
    return SweepSpec(**{"name": "mine", "space": {"layers": [2, 4], "seed": [0, 1]}, "objective": "ppl@2T", **changes})


def test_another_question_under_the_same_name(tmp_path: Path) -> None:
    storage = open_storage(None, tmp_path)
    with pytest.raises(UserError, match=r"no study 'mine' in .*: it has not been started"):
        load_study(spec(), storage)
    create_study(spec(), storage)
    for changes, message in [
        ({"space": {"layers": [2, 6], "seed": [0, 1]}}, r"its space had layers: \[2, 4\], the file has \[2, 6\]"),
        ({"objective": "ppl@4T"}, "its objective was"),
        ({"fixed": {"steps": 3}}, "its fixed had steps: None, the file has 3"),
    ]:
        for study in (create_study, load_study):
            with pytest.raises(UserError, match=message):
                study(spec(**changes), storage)
    assert create_study(spec(), storage).user_attrs == load_study(spec(), storage).user_attrs
