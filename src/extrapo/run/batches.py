"""The text as one rank sees it: the batches of training, plain or packed, and the windows of validation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor

from extrapo.config import ResolvedConfig
from extrapo.data import BatchLoader, Corpus
from extrapo.errors import UserError
from extrapo.evaluation import batch_windows, protocol
from extrapo.run.setup import World, accumulation


def training_batches(config: ResolvedConfig, world: World, corpus: Corpus) -> BatchLoader:
    """The training split in batches of one rank.

    Raises:
        UserError: less text than one step needs, or packing for a text without borders between documents.
    """
    if config.pack and corpus.manifest["splits"]["train"]["documents"] < 2:
        raise UserError(f"`pack` keeps documents apart, and the training split of '{corpus.name}' is a single one")
    return BatchLoader(
        corpus.train,
        seq_len=config.seq_len,
        batch_size=config.micro_batch,
        seed=config.seed,
        rank=world.rank,
        world_size=world.size,
        accumulate=accumulation(config, world),
        separator=corpus.tokenizer.separator if config.pack else None,
        device_pin=world.accelerator == "gpu",
    )


class ValidationBatches:
    """The validation text in windows of T, the batches of one rank.

    Args:
        tokens: (N,) validation tokens.
        length: T.
        wanted: tokens to score at most.
        rank, ranks: this process among those that share the windows.

    Raises:
        UserError: a text of fewer windows than ranks.
    """

    def __init__(self, tokens: np.ndarray[Any, Any], length: int, wanted: int, rank: int, ranks: int) -> None:
        windows = protocol("disjoint").cover([length], len(tokens), max(wanted, ranks * length))[length]
        if len(windows) < ranks:
            raise UserError(
                f"the validation text has {len(tokens):,} tokens: {len(windows)} windows of {length} "
                f"for {ranks} devices"
            )
        # Every rank has as many windows as the others: Lightning expects it.
        self.batches = batch_windows(tokens, windows[: len(windows) // ranks * ranks][rank::ranks])

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Tensor]:
        return (batch.load() for batch in self.batches)
