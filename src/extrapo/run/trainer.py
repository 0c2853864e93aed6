"""The Lightning Trainer of a run, which counts in optimiser steps."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import lightning as L
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import ModelParallelStrategy

from extrapo.config import ResolvedConfig
from extrapo.errors import UserError
from extrapo.run.checkpoints import AtomicCheckpointIO
from extrapo.run.setup import SHARDED, World, accumulation


def make_trainer(
    config: ResolvedConfig,
    world: World,
    folder: Path,
    logger: Logger | None = None,
    callbacks: Sequence[L.Callback] = (),
) -> L.Trainer:
    """A Trainer for `config.steps` optimiser steps.

    Raises:
        UserError: Lightning refuses the combination of strategy, devices and precision, or numbers processes otherwise
            than their launcher.
    """
    accumulate = accumulation(config, world)
    precision = config.precision
    if precision == "auto":
        precision = "bf16-mixed" if world.accelerator == "gpu" else "32-true"
    try:
        trainer = L.Trainer(
            accelerator=world.accelerator,
            devices=world.devices,
            num_nodes=world.nodes,
            strategy=_strategy(config, world),
            precision=precision,
            max_steps=config.steps,
            max_epochs=-1,
            accumulate_grad_batches=accumulate,
            gradient_clip_val=config.clip or None,
            val_check_interval=config.val_every * accumulate,
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            # Of training, `TrainingRecord` writes: Lightning's own would leave the first and the last step out.
            log_every_n_steps=0,
            logger=logger if logger is not None else False,
            callbacks=list(callbacks),
            plugins=[AtomicCheckpointIO()],
            default_root_dir=folder,
            use_distributed_sampler=False,
            enable_model_summary=False,
        )
    except (ValueError, RuntimeError, ImportError, MisconfigurationException) as cause:
        if isinstance(cause, UserError):
            raise
        raise UserError(f"Lightning refuses this trainer: {str(cause).splitlines()[0]}") from cause
    # Each would take another one's share of the batches, or two of them record one run.
    if (trainer.global_rank, trainer.world_size) != (world.rank, world.size):
        raise UserError(
            f"by the environment this is process {world.rank} of {world.size}, and Lightning takes it for "
            f"{trainer.global_rank} of {trainer.world_size}: unset what torchrun or SLURM left over there"
        )
    return trainer


def _strategy(config: ResolvedConfig, world: World) -> str | ModelParallelStrategy:
    if config.strategy in SHARDED:
        # One file for all ranks: a checkpoint is read by any number of them, and by `evaluate`.
        return ModelParallelStrategy(world.size, tensor_parallel_size=1, save_distributed_checkpoint=False)
    if config.swap_to and world.size > 1 and config.strategy in ("auto", "ddp"):
        # Of two encodings one is idle: its parameters have no gradient in a step.
        return "ddp_find_unused_parameters_true"
    return config.strategy


def quieten() -> None:
    """Leave out what Lightning and torch say about themselves."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # The validation loss is a metric of torchmetrics, which adds up the ranks by itself.
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")
    warnings.filterwarnings("ignore", message=".*logging interval.*")
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
