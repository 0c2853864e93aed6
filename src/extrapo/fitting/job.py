"""The main job: text, model, training, curve, heatmaps, record."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import ModelParallelStrategy

from extrapo.config import ResolvedConfig, RunConfig
from extrapo.data import BatchLoader, Corpus, prepare
from extrapo.errors import UserError
from extrapo.evaluation import Point
from extrapo.fitting.callbacks import Biases, ComputePath, Curve, Speed, drawing_steps, has_bias
from extrapo.fitting.checkpoints import AtomicCheckpointIO, LastCheckpoint
from extrapo.fitting.plan import (
    SHARDED,
    Windows,
    check,
    check_launch,
    describe,
    device_count,
    process_rank,
    run_lengths,
)
from extrapo.terminal import Output
from extrapo.terminal.progress import TrainingProgress
from extrapo.tracking import Recorder, Store, read
from extrapo.training import LanguageModel


@dataclass(frozen=True)
class Result:
    """What a run came to.

    Args:
        run_id: the MLflow run.
        config: the resolved configuration.
        points: the curve; empty if the run was interrupted.
        tokens_per_second: of training, over all devices.
        checkpoint: the weights that the curve belongs to.
        picture: the curve as a picture.
        impl: the compute path of attention.
        interrupted_at: the optimiser step at which a signal stopped the run, None if it ended by itself.
    """

    run_id: str
    config: ResolvedConfig
    points: list[Point]
    tokens_per_second: float
    checkpoint: Path
    picture: Path | None
    impl: str
    interrupted_at: int | None

    def summary(self) -> dict[str, Any]:
        """The document that `extrapo fit --json` prints."""
        return {
            "run_id": self.run_id,
            "encoding": self.config.encoding,
            "layers": self.config.layers,
            "train_length": self.config.seq_len,
            "steps": self.config.steps,
            "tokens_per_second": round(self.tokens_per_second, 1),
            "curve": [point.row() for point in self.points],
            "checkpoint": str(self.checkpoint),
            "impl": self.impl,
        }


def make_trainer(
    config: ResolvedConfig, accelerator: str, devices: int, folder: Path, logger: Any, callbacks: list[L.Callback]
) -> L.Trainer:
    """A Trainer that counts in optimiser steps."""
    accumulate = accumulation(config, devices * config.nodes)
    precision = config.precision
    if precision == "auto":
        precision = "bf16-mixed" if accelerator == "gpu" else "32-true"
    ranks = devices * config.nodes
    strategy: str | ModelParallelStrategy = config.strategy
    if config.swap_to and ranks > 1 and strategy in ("auto", "ddp"):
        # Of two encodings one is idle: its parameters have no gradient in a step.
        strategy = "ddp_find_unused_parameters_true"
    if strategy in SHARDED:
        # One file for all ranks: a checkpoint is read by any number of them, and by `evaluate`.
        strategy = ModelParallelStrategy(ranks, tensor_parallel_size=1, save_distributed_checkpoint=False)
    try:
        return L.Trainer(
            accelerator=accelerator,
            devices=devices,
            num_nodes=config.nodes,
            strategy=strategy,
            precision=precision,
            max_steps=config.steps,
            max_epochs=-1,
            accumulate_grad_batches=accumulate,
            gradient_clip_val=config.clip or None,
            val_check_interval=config.val_every * accumulate,
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            log_every_n_steps=config.log_every,
            logger=logger,
            callbacks=callbacks,
            plugins=[AtomicCheckpointIO()],
            default_root_dir=folder,
            use_distributed_sampler=False,
            enable_model_summary=False,
        )
    except (ValueError, RuntimeError, ImportError, MisconfigurationException) as cause:
        if isinstance(cause, UserError):
            raise
        raise UserError(f"Lightning refuses this trainer: {str(cause).splitlines()[0]}") from cause


def fit(
    config: RunConfig,
    output: Output,
    *,
    resume: str | None = None,
    tags: Mapping[str, str] | None = None,
    callbacks: Sequence[L.Callback] = (),
) -> Result:
    """Train, measure the curve, draw the biases, record all of it.

    Args:
        config: the run; derived values are filled in. With `resume` only its `root` and `tracking_uri` count.
        output: where people read.
        resume: an earlier run to continue exactly where it stopped: its id, the beginning of it, its name, or `last`.
        tags: more MLflow tags of a new run.
        callbacks: more Lightning callbacks.

    Raises:
        UserError: a mistake in the configuration or in the text, before anything is written.
        KeyboardInterrupt: a second signal, or one after training; what was trained is saved.
    """
    quieten()
    rank = process_rank()
    chief = rank == 0
    say: Callable[[str], None] = output.say if chief else lambda line: None
    recorder: Recorder | None = None
    earlier: str | None = None
    if resume is not None:
        store = Store.existing(Path(config.root), config.tracking_uri)
        found = read(store, resume)
        earlier = found.run_id
        config = RunConfig(**{**found.config, "root": config.root, "tracking_uri": config.tracking_uri})
    accelerator, devices = device_count(config)
    check_launch(config.nodes, devices)
    ranks = devices * config.nodes
    config = config.resolved(ranks)
    check(config)
    corpus = prepare(config.data, tokenizer=config.tokenizer, vocab_size=config.vocab_size, say=say)
    lengths = run_lengths(config, len(corpus.validation), say)
    loader = BatchLoader(
        corpus.train,
        seq_len=config.seq_len,
        batch_size=config.micro_batch,
        seed=config.seed,
        rank=rank,
        world_size=ranks,
        accumulate=accumulation(config, ranks),
        device_pin=accelerator == "gpu",
    )
    windows = Windows(corpus.validation, config.seq_len, config.val_tokens, rank, ranks)
    L.seed_everything(config.seed, verbose=False)
    module = LanguageModel(
        config.gpt(corpus.tokenizer.vocab_size).model_dump(),
        lr=config.lr,
        warmup=config.warmup,
        steps=config.steps,
        weight_decay=config.weight_decay,
        compile=accelerator == "gpu" if config.compile is None else config.compile,
        swap_step=config.swap_step,
        swap_lr=config.swap_lr,
    )
    # A first Trainer only hears Lightning's objections, before there is a run to mark as failed.
    make_trainer(config, accelerator, devices, Path(config.root), False, [])
    say(describe(config, module.gpt, corpus, accelerator, ranks))
    folder = Path(config.root)
    if chief:
        store = Store.open(Path(config.root), config.tracking_uri, config.experiment)
        recorder = Recorder.resume(store, earlier) if earlier else begin(store, config, corpus, module, tags)
        folder = recorder.folder
        say(f"run {recorder.run_id} ({config.name})")
    elif earlier:
        folder = Path(config.root) / earlier

    last = LastCheckpoint(folder, config.val_every)
    best = ModelCheckpoint(folder, filename="best", monitor="val/loss", enable_version_counter=False)
    speed = Speed(config.batch_size * config.seq_len, config.log_every)
    path = ComputePath(say, (config.micro_batch, config.seq_len))
    curve = Curve(
        corpus.validation,
        lengths,
        config.eval_tokens,
        config.protocol,
        config.steps,
        skip=lambda: last.interrupted,
        progress=output.curve_progress if chief else nullcontext,
    )
    progress = TrainingProgress(output.console, speed, config.steps)
    every: list[L.Callback] = [path, speed, last, best, curve, progress, *callbacks]
    if config.heatmaps:
        steps = drawing_steps(config.heatmaps, config.steps)
        every.append(Biases(corpus.validation, config.seq_len, steps, partial(draw, recorder, say, steps[-1])))
    logger = recorder.logger() if recorder else False
    with recorded_status(recorder, last):
        trainer = make_trainer(config, accelerator, devices, folder, logger, every)
        checkpoint = folder / "last.ckpt" if earlier else None
        if checkpoint is not None and not checkpoint.is_file():
            say("the run stopped before its first checkpoint: it starts again")
            checkpoint = None
        trainer.fit(module, loader, windows, ckpt_path=checkpoint, weights_only=True)
        picture = None
        if recorder is not None:
            recorder.checkpoint(last.path, Path(best.best_model_path or last.path))
            if curve.points:
                rows = [{**point.row(), "corpus_sha256": corpus.sha256} for point in curve.points]
                picture = recorder.curve(
                    rows, train_length=config.seq_len, encoding=config.encoding, step=trainer.global_step
                )
    return Result(
        run_id=recorder.run_id if recorder else "",
        config=config,
        points=curve.points,
        tokens_per_second=speed.tokens_per_second,
        checkpoint=last.path,
        picture=picture,
        impl=path.choice.impl if path.choice else "",
        interrupted_at=trainer.global_step if last.interrupted else None,
    )


@contextmanager
def recorded_status(recorder: Recorder | None, last: LastCheckpoint) -> Iterator[None]:
    """Leave the run FINISHED, FAILED, or KILLED by a signal, whatever happens inside."""
    try:
        yield
    except BaseException as cause:
        # Lightning turns a KeyboardInterrupt into SystemExit(1).
        stopped = last.interrupted or isinstance(cause, KeyboardInterrupt | SystemExit)
        # Where the database is what failed, the first failure is the one to tell.
        with suppress(Exception):
            if recorder is not None:
                recorder.finish("KILLED" if stopped else "FAILED")
        if isinstance(cause, SystemExit):
            raise KeyboardInterrupt from cause
        raise
    if recorder is not None:
        recorder.finish("KILLED" if last.interrupted else "FINISHED")


def accumulation(config: ResolvedConfig, ranks: int) -> int:
    """Micro-batches in an optimiser step."""
    return config.batch_size // (ranks * config.micro_batch)


def begin(
    store: Store, config: ResolvedConfig, corpus: Corpus, module: LanguageModel, more: Mapping[str, str] | None = None
) -> Recorder:
    """A new MLflow run with its configuration."""
    tags = {
        "extrapo.encoding": config.encoding,
        "extrapo.corpus": corpus.name,
        "extrapo.corpus_sha256": corpus.sha256,
        "extrapo.tokenizer": corpus.tokenizer.name,
        "extrapo.parameters": str(module.gpt.num_parameters()),
        **(more or {}),
    }
    recorder = Recorder.create(store, config.name, config=config.model_dump(mode="json"), tags=tags)
    recorder.file("tokenizer.json", corpus.tokenizer.to_json())
    return recorder


def draw(
    recorder: Recorder | None,
    say: Callable[[str], None],
    last: int,
    step: int,
    biases: list[np.ndarray[Any, Any]],
) -> None:
    """Record the heatmaps of one step, unless there is nothing to see."""
    if recorder is None:
        return
    if has_bias(biases):
        recorder.heatmaps(step, biases)
    elif step == last:
        say("no heatmaps: this encoding adds nothing to the logits")


def quieten() -> None:
    """Leave out what Lightning and torch say about themselves."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # The validation loss is a metric of torchmetrics, which adds up the ranks by itself.
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
