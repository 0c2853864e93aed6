"""The Trainer counts in optimiser steps, and says in one line what it cannot do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from small_runs import change

from extrapo.config import RunConfig
from extrapo.errors import UserError
from extrapo.run.fit import fit
from extrapo.run.setup import World
from extrapo.run.trainer import make_trainer

ONE, TWO = (World("cpu", devices=devices, nodes=1, rank=0) for devices in (1, 2))


def test_steps_are_optimiser_steps(small: RunConfig, tmp_path: Path) -> None:
    config = change(small, micro_batch=2, val_every=3).resolved()
    trainer = make_trainer(config, ONE, tmp_path)
    assert (trainer.max_steps, trainer.accumulate_grad_batches, trainer.val_check_interval) == (6, 2, 6)
    assert trainer.precision == "32-true"


def test_shards_are_saved_as_one_file(small: RunConfig, tmp_path: Path) -> None:
    trainer = make_trainer(change(small, strategy="fsdp").resolved(2), TWO, tmp_path)
    assert isinstance(trainer.strategy, ModelParallelStrategy)


def test_two_encodings_leave_one_idle(small: RunConfig, tmp_path: Path) -> None:
    config = change(small, encoding="rope", swap_to="nope", strategy="ddp").resolved(2)
    trainer = make_trainer(config, TWO, tmp_path)
    assert trainer.strategy._ddp_kwargs["find_unused_parameters"] is True  # type: ignore[attr-defined]


def test_what_lightning_refuses_is_one_line(small: RunConfig, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Lightning refuses this trainer") as refused:
        make_trainer(change(small, strategy="deepspeed").resolved(), ONE, tmp_path)
    assert "\n" not in str(refused.value)


OF_LAUNCHERS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "TORCHELASTIC_RUN_ID", "SLURM_PROCID", "SLURM_NTASKS")

#: What torchrun, srun and Lightning itself give the second of two processes.
TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
TORCHRUN |= {"GROUP_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
SRUN = {"SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "1", "SLURM_NODEID": "0", "SLURM_JOB_NAME": "train"}
SRUN |= {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_NTASKS_PER_NODE": "2"}
LAUNCHERS = {"torchrun": TORCHRUN, "srun": SRUN, "lightning": {"LOCAL_RANK": "1", "MASTER_PORT": "9"}, "nobody": {}}


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_lightning_numbers_processes_as_their_launcher_does(
    launcher: str, strategy: str, small: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or each would take another one's share of the batches: where they differ, a line says so."""
    for name in OF_LAUNCHERS:
        monkeypatch.delenv(name, raising=False)
    for name, value in LAUNCHERS[launcher].items():
        monkeypatch.setenv(name, value)
    config = change(small, strategy=strategy, devices=2)
    world, resolved = World.of(config), config.resolved(2)
    trainer = make_trainer(resolved, world, tmp_path)
    rank = int(launcher != "nobody")
    assert (trainer.global_rank, trainer.world_size) == (world.rank, world.size) == (rank, 2)
    other = World("cpu", devices=2, nodes=1, rank=1 - rank)
    with pytest.raises(UserError, match=f"process {1 - rank} of 2, and Lightning takes it for {rank} of 2") as told:
        make_trainer(resolved, other, tmp_path)
    assert "\n" not in str(told.value)


def test_half_precision_has_the_fused_optimiser_and_clips(small: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under autocast Lightning itself clips no gradients beside it."""
    seen: list[tuple[bool, float]] = []
    real = torch.nn.utils.clip_grad_norm_

    def clip(parameters: Any, most: float) -> Any:
        norm = real(list(parameters), most)
        seen.append((True, float(norm)))
        return norm

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", clip)
    made: list[bool] = []

    class Fused(L.Callback):
        def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            made.extend(bool(one.defaults["fused"]) for one in trainer.optimizers)

    config = change(small, precision="bf16-mixed", clip=0.1, steps=2, val_every=2, heatmaps=0, lengths=(32,))
    fit(config, callbacks=[Fused()])
    assert made == [True]
    assert len(seen) == 2
