"""What each trial may use: devices of its own, and a fair share of the threads."""

from __future__ import annotations

import pytest

from extrapo.errors import UserError
from extrapo.sweep import slots as module
from extrapo.sweep.slots import Slot, divide


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(module, "cores", lambda: 8)


def test_without_gpus_the_cores_are_shared() -> None:
    assert divide(None, None, []) == [Slot(0, (), 8)]
    assert [slot.threads for slot in divide(3, None, [])] == [2, 2, 2]
    assert [slot.threads for slot in divide(20, None, [])] == [1] * 20


def test_each_slot_has_gpus_of_its_own() -> None:
    gpus = ["0", "1", "2", "3"]
    assert [slot.gpus for slot in divide(None, None, gpus)] == [("0",), ("1",), ("2",), ("3",)]
    assert [slot.gpus for slot in divide(None, 2, gpus)] == [("0", "1"), ("2", "3")]
    assert [slot.gpus for slot in divide(1, 3, gpus)] == [("0", "1", "2")]
    assert [slot.gpus for slot in divide(2, 0, gpus)] == [(), ()]


def test_more_than_there_is() -> None:
    with pytest.raises(UserError, match="4 workers with 2 GPUs each need 8, this machine has 4"):
        divide(4, 2, ["0", "1", "2", "3"])


def test_the_environment_keeps_a_trial_in_its_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = Slot(0, ("4", "5"), 8).environment(ranks=2)
    assert environment == {"CUDA_VISIBLE_DEVICES": "4,5", "OMP_NUM_THREADS": "4", "MKL_NUM_THREADS": "4"}
    assert Slot(0, (), 1).environment(ranks=4)["OMP_NUM_THREADS"] == "1"
    assert Slot(0, (), 1).environment(ranks=1)["CUDA_VISIBLE_DEVICES"] == ""
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert [slot.threads for slot in divide(2, None, [])] == [3, 3]


def test_the_gpus_that_are_named_are_the_ones_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a1,3")
    assert module.visible_gpus() == ["GPU-a1", "3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert module.visible_gpus() == []
