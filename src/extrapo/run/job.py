"""What can be made of a configuration before anything is written: text, batches, model; and most mistakes told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import lightning as L

from extrapo.config import ResolvedConfig, RunConfig
from extrapo.data import BatchLoader, Corpus, prepare
from extrapo.run.batches import ValidationBatches, training_batches
from extrapo.run.ranks import follow
from extrapo.run.reporter import Reporter, Silent
from extrapo.run.setup import World, check, describe, reading, run_lengths
from extrapo.run.trainer import make_trainer, quieten
from extrapo.training import LanguageModel


@dataclass(frozen=True)
class Job:
    """Everything that can be made of a configuration before anything is written.

    Args:
        config: resolved for this world.
        world: the processes that share the job.
        reporter: where people read; on further ranks nobody does.
        corpus: the text.
        lengths: of the curve, in tokens.
        loader: the training batches of this rank.
        validation: its validation batches.
        module: the model as it starts.
    """

    config: ResolvedConfig
    world: World
    reporter: Reporter
    corpus: Corpus
    lengths: list[int]
    loader: BatchLoader
    validation: ValidationBatches
    module: LanguageModel


def make_job(config: RunConfig, reporter: Reporter, tokenizer: Path | None = None) -> Job:
    """Settings, text, batches, model; every mistake that can be told before training. A `tokenizer` is the file of one
    that is there, in place of the one that is configured.

    Raises:
        UserError: such a mistake.
    """
    follow()
    quieten()
    world = World.of(config)
    reporter = reporter if world.is_rank_zero else Silent()
    settings = config.resolved(world.size)
    check(settings)
    corpus = prepare(
        settings.data,
        tokenizer=settings.tokenizer if tokenizer is None else f"file:{tokenizer}",
        vocab_size=settings.vocab_size,
        pad_vocab=settings.pad_vocab,
        say=reporter.say,
    )
    reach = reading(settings, corpus.tokenizer).reach(corpus.validation)
    lengths = run_lengths(settings, settings.seq_len, reach, reporter.say)
    loader = training_batches(settings, world, corpus)
    validation = ValidationBatches(corpus.validation, settings.seq_len, settings.val_tokens, world.rank, world.size)
    module = make_module(settings, world, corpus.tokenizer.vocab_size)
    # A first Trainer only hears Lightning's objections, before there is a run to mark as failed.
    make_trainer(settings, world, Path(settings.root))
    reporter.say(describe(settings, module.gpt, corpus, world))
    return Job(settings, world, reporter, corpus, lengths, loader, validation, module)


def make_module(config: ResolvedConfig, world: World, vocab_size: int) -> LanguageModel:
    """The model at its start: from here on the seed decides."""
    L.seed_everything(config.seed, verbose=False)
    return LanguageModel(
        config.gpt(vocab_size).model_dump(),
        lr=config.lr,
        warmup=config.warmup,
        steps=config.steps,
        weight_decay=config.weight_decay,
        compile=world.accelerator == "gpu" if config.compile is None else config.compile,
        swap_step=config.swap_step,
        swap_lr=config.swap_lr,
        swap_warmup=config.swap_warmup,
        swap_schedule=config.swap_schedule,
        swap_optimizer=config.swap_optimizer,
    )
