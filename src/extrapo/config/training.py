"""Training: steps, batches, rates."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from extrapo.config.settings import Settings
from extrapo.config.values import Count, CountOrZero, Positive, PositiveOrZero, Seed, TrainLength


class InitSettings(Settings):
    """Which weights a run starts from."""

    init: str | None = Field(
        None, description="A run to start from: its weights, shape, text and tokenizer [fresh weights]."
    )


class TrainingSettings(Settings):
    """How the weights are found."""

    seq_len: TrainLength = Field(256, description="Training length T in tokens.")
    steps: Count = Field(250, description="Optimiser steps.")
    batch_size: Count | None = Field(None, description="Sequences in a step, over all devices [4096 tokens].")
    micro_batch: Count | None = Field(None, description="Sequences a device takes at once [all of its share].")
    pack: bool = Field(False, description="Keep the documents of a row apart: none sees another.")
    lr: Positive | None = Field(None, description="Peak learning rate [0.02 / sqrt(width)].")
    warmup: CountOrZero | None = Field(None, description="Steps of linear warmup [4%].")
    weight_decay: PositiveOrZero = Field(0.1, description="Decay, on matrices only.")
    clip: PositiveOrZero = Field(1.0, description="Largest gradient norm; 0 is none.")
    seed: Seed = Field(0, description="Seed of the weights and of the order of the text.")
    val_every: Count | None = Field(None, description="Steps between validations and checkpoints [1/6 of steps].")
    val_tokens: Count = Field(8192, description="Tokens of a validation.")
    log_every: Count = Field(10, description="Steps between records of training; the first and the last are recorded.")
    on_nan: Literal["stop", "skip"] = Field(
        "stop", description="A loss that is no number: stop, or skip the step (20 in a row stop as well)."
    )
