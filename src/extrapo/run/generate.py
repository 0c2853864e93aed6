"""Text from a model: one token after the other by cached decoding; top-k and top-p (nucleus, Holtzman et al.,
1904.09751).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from extrapo.data import Tokenizer
from extrapo.errors import UserError
from extrapo.gpt import GPT

#: What a decoder puts where bytes are not a character yet.
UNFINISHED = "�"


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn.

    Args:
        temperature: divides the logits; 0 takes the likeliest token.
        top_k: only the k likeliest tokens; None is all.
        top_p: of these, only the likeliest that together have at least this probability.
        seed: of the draws.

    Raises:
        UserError: a value out of range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise UserError(f"`temperature` must be at least 0 and finite, not {self.temperature:g}")
        if self.top_k is not None and self.top_k < 1:
            raise UserError(f"`top_k` must be at least 1, not {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise UserError(f"`top_p` must be above 0 and at most 1, not {self.top_p:g}")


def probabilities(logits: Tensor, sampling: Sampling) -> Tensor:
    """Probabilities (V,) of the next token from its logits (V,).

    Raises:
        UserError: a logit is no number, as of a training that diverged.
    """
    logits = logits.double()
    if logits.isnan().any() or (logits == math.inf).any():
        raise UserError(
            "the model's logits are not finite, as after a training that diverged: there is nothing to draw from"
        )
    if sampling.temperature == 0:
        return torch.zeros_like(logits).index_fill_(0, logits.argmax(), 1.0)
    ordered, ids = ((logits - logits.max()) / sampling.temperature).sort(descending=True, stable=True)
    p = ordered[: min(sampling.top_k or len(ordered), len(ordered))].softmax(-1)
    # What comes before a token decides: the one that reaches top_p is still in.
    p = p.masked_fill(p.cumsum(-1) - p >= sampling.top_p, 0.0)
    return torch.zeros_like(logits).index_put_((ids[: p.numel()],), p / p.sum())


@torch.no_grad()
def generate_ids(model: GPT, prompt: Tensor, sampling: Sampling, *, chunk: int = 512) -> Iterator[int]:
    """Token ids that follow a prompt, without end.

    Args:
        model: in evaluation mode.
        prompt: (N,) token ids, N >= 1.
        sampling: how they are drawn; one seed gives one text on one machine.
        chunk: tokens of the prompt read at a time.

    Raises:
        UserError: an empty prompt.
    """
    if prompt.numel() == 0:
        raise UserError("a prompt of at least one token is needed")
    generator = torch.Generator().manual_seed(sampling.seed)
    state = model.start(1)
    for part in torch.split(prompt.unsqueeze(0), chunk, dim=1):
        logits, state = model.step(part, state)
    while True:
        drawn = torch.multinomial(probabilities(logits[0, -1].cpu(), sampling), 1, generator=generator)
        yield int(drawn)
        logits, state = model.step(drawn.to(prompt.device).unsqueeze(0), state)


def generate_text(
    model: GPT, tokenizer: Tokenizer, prompt: str, sampling: Sampling, *, tokens: int
) -> Iterator[tuple[str, int]]:
    """Pieces of the text that a model writes after a prompt, as they become certain, each with the tokens so far.

    Args:
        model: in evaluation mode.
        tokenizer: what it was trained with.
        prompt: at least one character.
        sampling: how tokens are drawn.
        tokens: how many to write.

    Raises:
        UserError: nothing to go on from.
    """
    if not prompt:
        raise UserError("`prompt` must not be empty: a text goes on from something")
    try:
        prompt.encode()
    except UnicodeEncodeError as cause:
        raise UserError(f"`prompt` is not text: it has {prompt[cause.start]!a}") from cause
    device = next(model.parameters()).device
    ids = torch.tensor(tokenizer.encode(prompt), dtype=torch.int64, device=device)
    return decoded(tokenizer, islice(generate_ids(model, ids, sampling), tokens))


def decoded(tokenizer: Tokenizer, ids: Iterator[int]) -> Iterator[tuple[str, int]]:
    """Text as it becomes certain, and how many ids have been read: a character may take several ids."""
    pending: list[int] = []
    count = 0
    for count, one in enumerate(ids, start=1):
        pending.append(one)
        text = tokenizer.decode(pending)
        if not text.endswith(UNFINISHED):
            yield text, count
            pending.clear()
    if pending:
        yield tokenizer.decode(pending), count
