"""Several processes train what one would, on a prepared corpus: losses and weights under DDP, a step of FSDP2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from extrapo.config import RunConfig
from extrapo.data import prepare
from extrapo.location import Location
from extrapo.run.fit import fit
from extrapo.terminal import Output
from extrapo.tracking import RunStore, recorded_run, runs
from extrapo.training import load_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def together(values: dict[str, Any], *program: str) -> dict[str, Any]:
    """The document of `extrapo fit` in processes of its own, of a program in place of `python -m extrapo`."""
    given = {**values, "lengths": ",".join(map(str, values["lengths"]))}
    flags = [part for key, value in given.items() for part in (f"--{key.replace('_', '-')}", str(value))]
    command = [sys.executable, *(program or ("-m", "extrapo")), "fit", *flags, "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


Steps = dict[int, float]
MEASURED = ("train/loss", "train/grad_norm", "val/loss")


def train(config: RunConfig, root: Path, **changes: Any) -> tuple[list[Steps], dict[str, torch.Tensor]]:
    """`MEASURED` by step, and the weights at the end, of one process, or of several."""
    values = {**config.model_dump(exclude_unset=True), "heatmaps": 0, **changes, "root": str(root), "lengths": (32,)}
    result = together(values) if "devices" in changes else fit(RunConfig(**values), Output()).summary()
    run = recorded_run(RunStore.existing(Location(root)), result["run_id"])
    histories = [
        {point.step: point.value for point in run.store.client.get_metric_history(run.run_id, key)} for key in MEASURED
    ]
    return histories, load_checkpoint(result["checkpoint"]).state_dict()


def test_two_ranks_equal_one_process_in_float64(small: RunConfig, tmp_path: Path) -> None:
    prepare(small.data, tokenizer=small.tokenizer, output="prepared")
    changes = {"precision": "64-true", "encoding": "rope+k-cable", "data": "prepared"}
    (losses, norms, held_out), weights = train(small, tmp_path / "one", **changes)
    (others, their_norms, their_held_out), shared = train(small, tmp_path / "two", **changes, devices=2, strategy="ddp")
    assert len(losses) == len(norms) == 6
    assert len(held_out) > 1
    assert others == pytest.approx(losses, rel=1e-10, abs=0)
    assert their_norms == pytest.approx(norms, rel=1e-8, abs=0)
    assert their_held_out == pytest.approx(held_out, rel=1e-10, abs=0)
    for name, tensor in weights.items():
        # AdamW divides by the root of a gradient's square: where a gradient is nearly 0, its rounding shows.
        torch.testing.assert_close(shared[name], tensor, rtol=1e-7, atol=1e-8, msg=name)


def test_one_step_of_fsdp2_on_two_processes_equals_one_process(small: RunConfig, tmp_path: Path) -> None:
    changes = {"encoding": "rope+k-cable", "steps": 1, "val_every": 1, "warmup": 1, "heatmaps": 2}
    (losses, norms, _), weights = train(small, tmp_path / "one", **changes)
    (others, their_norms, _), sharded = train(small, tmp_path / "two", **changes, devices=2, strategy="fsdp")
    assert others == pytest.approx(losses, rel=1e-6)
    assert their_norms == pytest.approx(norms, rel=1e-5), "of the whole gradient, of which each rank has a half"
    assert set(sharded) == set(weights)
    drawn, others_drawn = (runs(tmp_path / name)[0].heatmaps() for name in ("one", "two"))
    assert set(drawn) == set(others_drawn) == {0, 1}, "where each rank has a half of the weights"
    for name, tensor in weights.items():
        torch.testing.assert_close(sharded[name], tensor, rtol=1e-4, atol=1e-5, msg=name)


#: The second rank's loss is no number in the third step: `python SCRIPT fit ...`, and so in each of its ranks.
SPOILED = """
import math, sys
from extrapo.cli import run
from extrapo.training import LanguageModel

plain = LanguageModel.training_step

def training_step(self, batch, batch_idx):
    loss = plain(self, batch, batch_idx)
    return loss * math.nan if (self.trainer.global_step, self.trainer.global_rank) == (2, 1) else loss

LanguageModel.training_step = training_step
sys.exit(run(sys.argv[1:]))
"""


@pytest.mark.chaos
def test_a_step_that_is_bad_on_one_rank_is_skipped_on_all(small: RunConfig, tmp_path: Path) -> None:
    """Else the ranks would wait for one another, or their weights would differ."""
    script = tmp_path / "spoiled.py"
    script.write_text(SPOILED)
    values = {"encoding": "nope", "strategy": "ddp", "devices": 2, "on_nan": "skip", "steps": 4, "val_every": 4}
    result = together({**small.model_dump(exclude_unset=True), **values, "heatmaps": 0, "lengths": (32,)}, str(script))
    assert result["skipped_steps"] == 1
    assert result["curve"][0]["nll"] > 0
