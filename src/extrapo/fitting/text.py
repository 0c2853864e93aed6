"""Text from a trained model: a prompt in, pieces of text out as they come."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch

from extrapo.data import Tokenizer
from extrapo.errors import UserError
from extrapo.fitting.again import beside, find
from extrapo.generation import Sampling, generate
from extrapo.training import load

#: What a decoder puts where bytes are not a character yet.
UNFINISHED = "�"


def pieces(tokenizer: Tokenizer, ids: Iterator[int]) -> Iterator[tuple[str, int]]:
    """Text as it becomes certain, and how many ids have been read: a character may take several ids."""
    read: list[int] = []
    count = 0
    for count, one in enumerate(ids, start=1):
        read.append(one)
        text = tokenizer.decode(read)
        if not text.endswith(UNFINISHED):
            yield text, count
            read.clear()
    if read:
        yield tokenizer.decode(read), count


def continued(
    run: str,
    prompt: str,
    *,
    tokens: int,
    sampling: Sampling,
    root: Path = Path("runs"),
    tracking_uri: str | None = None,
) -> Iterator[tuple[str, int]]:
    """Pieces of the text that a trained model writes after a prompt, each with the number of tokens so far.

    Args:
        run: a run, or the path of a checkpoint.
        prompt: at least one character.
        tokens: how many to write.
        sampling: how they are drawn.
        root: folder of all runs.
        tracking_uri: MLflow store, if not the root's own.

    Raises:
        UserError: no such run, or nothing to go on from.
    """
    if not prompt:
        raise UserError("`prompt` must not be empty: a text goes on from something")
    checkpoint = find(run, root, tracking_uri)
    tokenizer = Tokenizer.load(beside(checkpoint, "tokenizer.json"))
    model = load(checkpoint).gpt
    ids = torch.tensor(tokenizer.encode(prompt), dtype=torch.int64)
    return pieces(tokenizer, islice(generate(model, ids, sampling), tokens))
