"""A task that is stopped anywhere comes to what it would have come to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from extrapo.config import ProbeSettings
from extrapo.data.tokenizer import ByteTokenizer
from extrapo.evaluation.probes import PROBES, Likelihood, Unfinished, run_probe

SETTINGS = ProbeSettings(items=12, places=3, keys=(2, 3), batch_tokens=2000)
TASKS = PROBES.get("recall").asked(ByteTokenizer(), SETTINGS)
LENGTHS = [400, 500]
TABLE = torch.randn(300, 257, generator=torch.Generator().manual_seed(0))


class Stops:
    """A model that is interrupted in one of its passes."""

    def __init__(self, at: int | None = None) -> None:
        self.at, self.passes = at, 0

    def __call__(self, tokens: Tensor, last: int) -> Tensor:
        if self.passes == self.at:
            raise KeyboardInterrupt
        self.passes += 1
        return TABLE[tokens[:, -last:]].log_softmax(-1)


def test_a_stopped_task_goes_on_and_comes_to_the_same(tmp_path: Path) -> None:
    whole = Stops()
    undisturbed = run_probe(TASKS, whole, LENGTHS, SETTINGS)
    for at in (1, whole.passes // 2, whole.passes - 1):
        kept = tmp_path / "kept.json"
        stopped = Unfinished(kept, "key", every=0)
        with pytest.raises(KeyboardInterrupt):
            run_probe(TASKS, Stops(at), LENGTHS, SETTINGS, unfinished=stopped)
        goes_on, after = Unfinished(kept, "key"), Stops()
        assert goes_on.count == stopped.count > 0
        assert run_probe(TASKS, after, LENGTHS, SETTINGS, unfinished=goes_on) == undisturbed
        assert after.passes == whole.passes - at
        goes_on.forget()
        assert not kept.exists()


def test_what_belongs_to_another_question_is_not_taken(tmp_path: Path) -> None:
    kept = Unfinished(tmp_path / "kept.json", "one")
    kept.keep("part", [Likelihood(-1.5, 0.25)])
    assert not (tmp_path / "kept.json").exists()
    kept.save()
    assert Unfinished(tmp_path / "kept.json", "one").known("part") == [Likelihood(-1.5, 0.25)]
    assert Unfinished(tmp_path / "kept.json", "other").known("part") == ()


@pytest.mark.parametrize("broken", ["", "{", "[]", json.dumps({"key": "one"}), json.dumps({"key": "one", "found": 3})])
def test_a_broken_file_is_no_file(tmp_path: Path, broken: str) -> None:
    (tmp_path / "kept.json").write_text(broken)
    assert Unfinished(tmp_path / "kept.json", "one").count == 0
