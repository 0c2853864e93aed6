"""A grid that grew takes the new cells and keeps the old ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extrapo.errors import UserError
from extrapo.sweep.growth import is_grown
from extrapo.sweep.queue import CELL, Queue
from extrapo.sweep.spec import SweepSpec
from extrapo.sweep.storage import open_storage
from extrapo.sweep.study import create_study, load_study
from extrapo.sweep.summary import summarise

SMALL = {"encoding": ["cable"], "kernel": ["log", "linear"], "seed": [0, 1]}
LARGE = {"encoding": ["cable"], "kernel": ["power", "log", "linear"], "seed": [2, 0, 1]}


def spec(space: dict[str, Any], **more: Any) -> SweepSpec:
    return SweepSpec(**{"name": "mine", "space": space, "objective": "ppl@2T", **more})


def opened(root: Path, asked: SweepSpec) -> Queue:
    storage = open_storage(None, root)
    queue = Queue(asked, create_study(asked, storage), storage)
    queue.enqueue_missing()
    return queue


def work(queue: Queue, cells: int) -> list[dict[str, Any]]:
    """Claim and complete so many cells; what was tried."""
    tried = []
    for _ in range(cells):
        trial = queue.claim()
        assert trial is not None
        tried.append(queue.suggest(trial)[1])
        queue.set_attributes(trial, curve=[{"length": 64, "nll": 1.0, "ppl": 2.0}])
        assert queue.complete(trial, [float(trial.number)])
    return tried


def test_new_cells_are_queued_and_old_ones_stay(tmp_path: Path) -> None:
    small, large = spec(SMALL), spec(LARGE)
    before = opened(tmp_path, small)
    assert work(before, 3) == small.cells()[:3]
    kept = {cell: trial.values for cell, trial in before.cells().items() if trial.values}
    after = opened(tmp_path, large)
    assert after.counts() == {"complete": 3, "waiting": 6}
    tried = work(after, 6)
    assert after.claim() is None
    cells = after.cells()
    assert sorted(cells) == list(range(9))
    assert {number: cells[number].values for number in kept} == kept
    # Each cell of the large grid once, under the values that it was queued with.
    found = sorted(map(str, small.cells()[:3] + tried))
    assert found == sorted(map(str, large.cells()))
    assert [cells[number].params for number in range(4)] == small.cells()
    assert len(summarise(after).groups) == 3
    # A second growth, and the same file again.
    more = spec({**LARGE, "seed": [0, 1, 2, 3]})
    assert opened(tmp_path, more).counts() == {"complete": 9, "waiting": 3}
    assert opened(tmp_path, more).counts() == {"complete": 9, "waiting": 3}


def test_a_worker_of_the_smaller_grid_knows_the_cells_of_the_larger(tmp_path: Path) -> None:
    small = spec(SMALL)
    old = opened(tmp_path, small)
    work(old, 1)
    opened(tmp_path, spec(LARGE))
    storage = open_storage(None, tmp_path)
    worker = Queue(small, load_study(small, storage), storage)
    assert len(work(worker, 8)) == 8
    assert {trial.user_attrs[CELL] for trial in worker.trials()} == set(range(9))


def test_a_process_that_died_while_the_grid_grew_is_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work(opened(tmp_path, spec(SMALL)), 2)
    storage = open_storage(None, tmp_path)
    monkeypatch.setattr(storage, "widen", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        create_study(spec(LARGE), storage)
    assert len(work(opened(tmp_path, spec(LARGE)), 7)) == 7


@pytest.mark.parametrize(
    "space",
    [
        {**LARGE, "kernel": ["log", "power"]},
        {**LARGE, "layers": [2, 4]},
        {key: LARGE[key] for key in ("encoding", "seed")},
    ],
)
def test_a_grid_that_lost_something_is_another_question(tmp_path: Path, space: dict[str, Any]) -> None:
    opened(tmp_path, spec(SMALL))
    with pytest.raises(UserError, match="asked another question: its space"):
        opened(tmp_path, spec(space))


def test_a_search_does_not_grow(tmp_path: Path) -> None:
    more = {"mode": "search", "trials": 4}
    opened(tmp_path, spec(SMALL, **more))
    with pytest.raises(UserError, match="asked another question: its space"):
        opened(tmp_path, spec(LARGE, **more))


VALUES = st.lists(st.sampled_from([0, 1, True, 1.0, 2, "1"]), min_size=1, max_size=4, unique_by=repr)


@given(VALUES, VALUES)
def test_growth_is_by_values(few: list[Any], many: list[Any]) -> None:
    before = {"mode": "grid", "space": {"seed": few}}
    after = {"mode": "grid", "space": {"seed": many}}
    try:
        grown = is_grown(before, after)
    except ValueError:  # 1 and 1.0 are listed twice
        return
    assert grown == ({repr(value) for value in few} <= {repr(value) for value in many})
