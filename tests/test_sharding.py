"""Several processes train what one would: the same losses and weights under DDP in float64, a step of FSDP2."""

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
from extrapo.location import Location
from extrapo.run.fit import fit
from extrapo.terminal import Output
from extrapo.tracking import RunStore, recorded_run
from extrapo.training import load_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def together(values: dict[str, Any]) -> dict[str, Any]:
    """The document of `extrapo fit` in processes of its own."""
    given = {**values, "lengths": ",".join(map(str, values["lengths"]))}
    flags = [part for key, value in given.items() for part in (f"--{key.replace('_', '-')}", str(value))]
    command = [sys.executable, "-m", "extrapo", "fit", *flags, "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def train(config: RunConfig, root: Path, **changes: Any) -> tuple[dict[int, float], dict[str, torch.Tensor]]:
    """The losses by step, and the weights at the end, of one process, or of several."""
    values = {**config.model_dump(exclude_unset=True), **changes, "root": str(root), "heatmaps": 0, "lengths": (32,)}
    result = together(values) if "devices" in changes else fit(RunConfig(**values), Output()).summary()
    run = recorded_run(RunStore.existing(Location(root)), result["run_id"])
    losses = {p.step: p.value for p in run.store.client.get_metric_history(run.run_id, "train/loss")}
    return losses, load_checkpoint(result["checkpoint"]).state_dict()


def test_two_ranks_equal_one_process_in_float64(small: RunConfig, tmp_path: Path) -> None:
    changes = {"precision": "64-true", "encoding": "rope+k-cable"}
    one, weights = train(small, tmp_path / "one", **changes)
    two, shared = train(small, tmp_path / "two", **changes, devices=2, strategy="ddp")
    assert len(one) == 6
    assert two == pytest.approx(one, rel=1e-10, abs=0)
    for name, tensor in weights.items():
        # AdamW divides by the root of a gradient's square: where a gradient is nearly 0, its rounding shows.
        torch.testing.assert_close(shared[name], tensor, rtol=1e-7, atol=1e-8, msg=name)


def test_one_step_of_fsdp2_on_two_processes_equals_one_process(small: RunConfig, tmp_path: Path) -> None:
    changes = {"encoding": "rope+k-cable", "steps": 1, "val_every": 1, "warmup": 1}
    one, weights = train(small, tmp_path / "one", **changes)
    two, sharded = train(small, tmp_path / "two", **changes, devices=2, strategy="fsdp")
    assert two == pytest.approx(one, rel=1e-6)
    assert set(sharded) == set(weights)
    for name, tensor in weights.items():
        torch.testing.assert_close(sharded[name], tensor, rtol=1e-4, atol=1e-5, msg=name)
