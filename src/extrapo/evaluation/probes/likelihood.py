"""How likely a model finds each of many answers, whatever the size of a batch, and where it was left off.

Texts of equal length go together and nothing is padded: what a model makes of a text never depends on the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: (B, T) tokens and n -> (B, n, V) log-probabilities of what follows each of the last n.
NextTokens = Callable[[Tensor, int], Tensor]


class Likelihood(NamedTuple):
    """Of one answer.

    Args:
        log: its log-probability, in nats.
        greedy: how often a model that always takes the likeliest token gives it: 0 or 1, less where tokens tie.
    """

    log: float
    greedy: float


@dataclass(frozen=True)
class Question:
    """A text, and the answers that are asked for at its end.

    Args:
        seen: (L,) the tokens that a model reads.
        size: tokens of an answer; those but the last are at the end of `seen`.
        answers: (A, size) tokens, which agree but for the last.
    """

    seen: NDArray[np.int64]
    size: int
    answers: NDArray[np.int64]


def likelihoods(
    texts: Sequence[NDArray[np.int64]],
    sizes: Sequence[int],
    model: NextTokens,
    *,
    device: torch.device | str,
    batch_tokens: int,
    known: Sequence[Likelihood] = (),
    after_batch: Callable[[Sequence[Likelihood], int, int], None] = lambda found, done, total: None,
) -> list[Likelihood]:
    """Of the end of each text.

    Args:
        texts: N times token ids.
        sizes: (N,) tokens at the end of each that are its answer.
        model: what is asked.
        device: where the model is.
        batch_tokens: tokens in one forward pass, unless one text has more.
        known: what an earlier call, with the same arguments, had found when it was stopped.
        after_batch: called after each batch with all that is found, questions done, and questions.
    """
    questions, order = _questions(texts, sizes)
    found, done = list(known), 0
    for batch in _batches(questions, batch_tokens):
        before, count = sum(len(one.answers) for one in questions[:done]), sum(len(one.answers) for one in batch)
        done += len(batch)
        if len(found) < before + count:
            found[before:] = _answered(batch, model, device)
            after_batch(found, done, len(questions))
    return [found[i] for i in order]


def _questions(texts: Sequence[NDArray[np.int64]], sizes: Sequence[int]) -> tuple[list[Question], NDArray[np.int64]]:
    """What has to be read, the short before the long, and where among their answers that of each text stands."""
    # Answers of one token differ in what is asked for alone, not in what the model reads.
    same: dict[tuple[int, int, bytes], list[int]] = {}
    for number, (text, size) in enumerate(zip(texts, sizes, strict=True)):
        same.setdefault((len(text), size, text[:-1].tobytes()), []).append(number)
    in_order = sorted(same.items(), key=lambda one: one[0][:2])
    questions = [
        Question(texts[numbers[0]][:-1], size, np.stack([texts[number][-size:] for number in numbers]))
        for (_, size, _), numbers in in_order
    ]
    return questions, np.argsort([number for _, numbers in in_order for number in numbers])


def _batches(questions: Sequence[Question], batch_tokens: int) -> Iterator[Sequence[Question]]:
    for (length, _), group in groupby(questions, key=lambda one: (len(one.seen), one.size)):
        alike, count = list(group), max(1, batch_tokens // length)
        for start in range(0, len(alike), count):
            yield alike[start : start + count]


def _answered(batch: Sequence[Question], model: NextTokens, device: torch.device | str) -> list[Likelihood]:
    seen = torch.from_numpy(np.stack([one.seen for one in batch])).to(device)
    follows = model(seen, batch[0].size).float()
    best = follows.max(-1, keepdim=True).values
    ties = (follows >= _nearly(best)).sum(-1)
    found = []
    for row, question in enumerate(batch):
        asked = torch.from_numpy(question.answers).to(device)
        likely = follows[row].gather(-1, asked.T).T
        greedy = torch.where(likely >= _nearly(best[row].T), 1 / ties[row], 0.0).double().prod(-1)
        found += [Likelihood(*one) for one in zip(likely.double().sum(-1).tolist(), greedy.tolist(), strict=True)]
    return found


def _nearly(best: Tensor) -> Tensor:
    """What counts as equal to the best: sums in another order differ in their last digits."""
    return best - 1e-5 * (1 + best.abs())
