"""The main job: text, model, training, curve, heatmaps, record."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from extrapo import encodings
from extrapo.config import RunConfig
from extrapo.data import BatchLoader, Corpus, prepare
from extrapo.errors import UserError
from extrapo.evaluation import Point, default_lengths, protocol, tokens_to_score
from extrapo.evaluation.curve import batches
from extrapo.fitting.callbacks import Biases, ComputePath, Curve, Speed, drawing_steps, has_bias
from extrapo.fitting.checkpoints import AtomicCheckpointIO, LastCheckpoint
from extrapo.terminal import Output, TrainingProgress
from extrapo.tracking import Recorder, Store
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
    config: RunConfig
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


class Windows:
    """The validation text in windows of T, the batches of one rank.

    Args:
        tokens: (N,) validation tokens.
        length: T.
        wanted: tokens to score at most.
        rank, ranks: this process among those that share the windows.
    """

    def __init__(self, tokens: np.ndarray[Any, Any], length: int, wanted: int, rank: int, ranks: int) -> None:
        scored = tokens_to_score([length], len(tokens), wanted)
        self.batches: list[Callable[[], Tensor]] = batches(tokens, protocol("disjoint", length), scored)[rank::ranks]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Any:
        return (make() for make in self.batches)


def device_count(config: RunConfig) -> tuple[str, int]:
    """The accelerator and the number of processes on this machine that the run will have."""
    gpus = torch.cuda.device_count()
    if config.accelerator == "gpu" and not gpus:
        raise UserError("--accelerator gpu: this machine has no CUDA device that torch can see; leave it out for the CPU")
    accelerator = "gpu" if gpus and config.accelerator != "cpu" else "cpu"
    if config.devices == "auto":
        return accelerator, gpus if accelerator == "gpu" else 1
    if config.devices < 1:
        raise UserError(f"--devices must be at least 1, not {config.devices}")
    if accelerator == "gpu" and config.devices > gpus:
        raise UserError(f"--devices {config.devices}: this machine has {gpus} GPUs")
    return accelerator, config.devices


def check(config: RunConfig) -> None:
    """Build what is cheap to build, so that a mistake ends the run before any work is done."""
    config.gpt(config.vocab_size)
    protocol(config.protocol, 1)
    encodings.create(
        config.encoding,
        heads=config.heads or 1,
        head_dim=(config.dim or 1) // (config.heads or 1),
        dim=config.dim or 1,
        kernel=config.kernel,
        **config.encoding_options,
    )


def run_lengths(config: RunConfig, available: int, say: Callable[[str], None]) -> list[int]:
    """The lengths of the curve. Those asked for must fit the text; of the default ones, those that do."""
    if config.lengths is not None:
        lengths = sorted(set(config.lengths))
        tokens_to_score(lengths, available, config.eval_tokens)
        return lengths
    every = default_lengths(config.seq_len)
    lengths = [length for length in every if length < available]
    if len(lengths) < len(every):
        say(f"the validation text has {available:,} tokens: lengths above that are left out of the curve")
    tokens_to_score(lengths or every[:1], available, config.eval_tokens)
    return lengths


def make_trainer(
    config: RunConfig, accelerator: str, devices: int, folder: Path, logger: Any, callbacks: list[L.Callback]
) -> L.Trainer:
    """A Trainer that counts in optimiser steps."""
    assert config.batch_size is not None
    assert config.micro_batch is not None
    assert config.val_every is not None
    accumulate = config.batch_size // (devices * config.nodes * config.micro_batch)
    precision = config.precision
    if precision == "auto":
        precision = "bf16-mixed" if accelerator == "gpu" else "32-true"
    sharded = config.strategy not in ("auto", "ddp") and "ddp" not in config.strategy
    try:
        return L.Trainer(
            accelerator=accelerator,
            devices=devices,
            num_nodes=config.nodes,
            strategy=config.strategy,
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
            plugins=[] if sharded else [AtomicCheckpointIO()],
            default_root_dir=folder,
            use_distributed_sampler=False,
            enable_model_summary=False,
        )
    except (ValueError, RuntimeError) as cause:
        if isinstance(cause, UserError):
            raise
        raise UserError(f"Lightning refuses this trainer: {str(cause).splitlines()[0]}") from cause


def fit(config: RunConfig, output: Output, *, resume: str | None = None) -> Result:
    """Train, measure the curve, draw the biases, record all of it.

    Args:
        config: the run; derived values are filled in. With `resume` only its `root` and `tracking_uri` count.
        output: where people read.
        resume: an earlier run to continue exactly where it stopped: its id, the beginning of it, its name, or `last`.

    Raises:
        UserError: a mistake in the configuration or in the text, before anything is written.
        KeyboardInterrupt: a second signal, or one after training; what was trained is saved.
    """
    quieten()
    chief = rank_zero_only.rank == 0
    say: Callable[[str], None] = output.say if chief else lambda line: None
    store: Store | None = None
    recorded = None
    if resume is not None:
        store = Store.open(Path(config.root), config.tracking_uri, config.experiment)
        recorded = store.find(resume)
        config = RunConfig(**{**recorded.config, "root": config.root, "tracking_uri": config.tracking_uri})
    accelerator, devices = device_count(config)
    config = config.resolved(devices * config.nodes)
    check(config)

    corpus = prepare(config.data, tokenizer=config.tokenizer, vocab_size=config.vocab_size, say=say)
    lengths = run_lengths(config, len(corpus.validation), say)
    ranks, rank = devices * config.nodes, rank_zero_only.rank or 0
    assert config.batch_size is not None
    assert config.micro_batch is not None
    loader = BatchLoader(
        corpus.train,
        seq_len=config.seq_len,
        batch_size=config.micro_batch,
        seed=config.seed,
        rank=rank,
        world_size=ranks,
        accumulate=config.batch_size // (ranks * config.micro_batch),
        device_pin=accelerator == "gpu",
    )
    windows = Windows(corpus.validation, config.seq_len, config.val_tokens, rank, ranks)

    L.seed_everything(config.seed, verbose=False)
    module = LanguageModel(
        config.gpt(corpus.tokenizer.vocab_size).model_dump(),
        lr=config.lr or 0.0,
        warmup=config.warmup or 0,
        steps=config.steps,
        weight_decay=config.weight_decay,
        compile=accelerator == "gpu" if config.compile is None else config.compile,
    )

    recorder: Recorder | None = None
    if chief:
        store = store or Store.open(Path(config.root), config.tracking_uri, config.experiment)
        recorder = Recorder.resume(store, recorded.run_id) if recorded else begin(store, config, corpus, module)
    folder = recorder.folder if recorder else Path(config.root)
    say(describe(config, module, corpus, accelerator, ranks, recorder))

    last = LastCheckpoint(folder, config.val_every or 1)
    best = ModelCheckpoint(folder, filename="best", monitor="val/loss", enable_version_counter=False)
    speed = Speed(config.batch_size * config.seq_len, config.log_every)
    path = ComputePath(say)
    progress = output.curve_progress if chief else None
    curve = Curve(
        corpus.validation, lengths, config.eval_tokens, config.protocol, lambda: last.interrupted, progress
    )
    callbacks: list[L.Callback] = [path, speed, last, best, curve, TrainingProgress(output, speed, config.steps)]
    if config.heatmaps:
        steps = drawing_steps(config.heatmaps, config.steps)
        callbacks.append(Biases(corpus.validation, steps, partial(draw, recorder, say, steps[-1])))
    trainer = make_trainer(
        config, accelerator, devices, folder, recorder.logger() if recorder else False, callbacks
    )

    checkpoint = folder / "last.ckpt" if resume is not None else None
    if checkpoint is not None and not checkpoint.is_file():
        say("the run stopped before its first checkpoint: it starts again")
        checkpoint = None
    try:
        trainer.fit(module, loader, windows, ckpt_path=checkpoint, weights_only=True)
    except BaseException as cause:
        stopped = last.interrupted or isinstance(cause, KeyboardInterrupt | SystemExit)
        if recorder is not None:
            recorder.finish("KILLED" if stopped else "FAILED")
        if isinstance(cause, SystemExit):
            raise KeyboardInterrupt from cause
        raise
    picture = None
    if recorder is not None:
        recorder.checkpoint(last.path, Path(best.best_model_path or last.path))
        if curve.points:
            rows = [{**point.row(), "corpus_sha256": corpus.sha256} for point in curve.points]
            picture = recorder.curve(
                rows, train_length=config.seq_len, encoding=config.encoding, step=trainer.global_step
            )
        recorder.finish("KILLED" if last.interrupted else "FINISHED")
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


def begin(store: Store, config: RunConfig, corpus: Corpus, module: LanguageModel) -> Recorder:
    """A new MLflow run with its configuration."""
    tags = {
        "extrapo.encoding": config.encoding,
        "extrapo.corpus": corpus.name,
        "extrapo.corpus_sha256": corpus.sha256,
        "extrapo.tokenizer": corpus.tokenizer.name,
        "extrapo.parameters": str(module.gpt.num_parameters()),
    }
    assert config.name is not None
    return Recorder.create(store, config.name, config=config.model_dump(mode="json"), tags=tags)


def describe(
    config: RunConfig, module: LanguageModel, corpus: Corpus, accelerator: str, ranks: int, recorder: Recorder | None
) -> str:
    """What is about to happen, in a few lines."""
    gpt = module.gpt
    first = gpt.blocks[0].attention.encoding  # type: ignore[union-attr]
    kernel = type(getattr(first, "kernel", None)).__name__ if hasattr(first, "kernel") else None
    where = f"{ranks} {accelerator.upper()}{'s' if ranks > 1 else ''}"
    tokens = (config.batch_size or 0) * config.seq_len
    return (
        f"{config.encoding}{f' ({kernel})' if kernel else ''}: {config.layers} layers, {config.heads} heads, "
        f"width {config.dim}, {gpt.num_parameters() / 1e6:.2f}M parameters, on {where}\n"
        f"{corpus.name}: {len(corpus.train):,} training and {len(corpus.validation):,} validation tokens "
        f"({corpus.tokenizer.name}, {corpus.tokenizer.vocab_size:,} ids), sha256 {corpus.sha256[:12]}\n"
        f"{config.steps} steps of {config.batch_size} x {config.seq_len} = {tokens:,} tokens, "
        f"peak learning rate {config.lr:g}, seed {config.seed}"
        + (f"\nrun {recorder.run_id} ({config.name})" if recorder else "")
    )


def draw(
    recorder: Recorder | None, say: Callable[[str], None], last: int, step: int, biases: list[np.ndarray[Any, Any]]
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
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
