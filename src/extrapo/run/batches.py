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
        to_gpu=world.accelerator == "gpu",
    )


class ValidationBatches:
    """The validation text in windows of T, the batches of one rank.

    Args:
        tokens: (N,) validation tokens.
        length: T.
        wanted: tokens to score at most.
        rank, ranks: this process among those that share the windows, which are the same however many share them.

    Raises:
        UserError: a text shorter than a window.
    """

    def __init__(self, tokens: np.ndarray[Any, Any], length: int, wanted: int, rank: int, ranks: int) -> None:
        windows = protocol("disjoint").cover([length], len(tokens), max(wanted, length))[length]
        self.batches = batch_windows(tokens, windows[rank::ranks])
        # Sharded weights come together only if all ranks take part: one with less to do looks at the first window
        # again, which does not count.
        most = len(batch_windows(tokens, windows[0::ranks]))
        self.uncounted = batch_windows(tokens, windows[:1]) * (most - len(self.batches))

    def __len__(self) -> int:
        return len(self.batches) + len(self.uncounted)

    def __iter__(self) -> Iterator[Tensor | tuple[Tensor, int]]:
        yield from (batch.load() for batch in self.batches)
        yield from ((batch.load(), 0) for batch in self.uncounted)
