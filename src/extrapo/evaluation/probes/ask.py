"""A task put to a model, at every length, from where it was left off."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from extrapo.config import ProbeSettings
from extrapo.errors import NotApplicable
from extrapo.evaluation.probes.base import Task
from extrapo.evaluation.probes.item import Item
from extrapo.evaluation.probes.likelihood import Likelihood, NextTokens, likelihoods
from extrapo.evaluation.probes.result import Result
from extrapo.evaluation.probes.unfinished import Unfinished

#: Called with (length, questions done, questions).
Progress = Callable[[int, int, int], None]


@torch.no_grad()
def run_probe(
    tasks: Sequence[Task],
    model: NextTokens,
    lengths: Sequence[int],
    settings: ProbeSettings,
    *,
    device: torch.device | str = "cpu",
    unfinished: Unfinished | None = None,
    progress: Progress | None = None,
) -> list[Result]:
    """How often the model is right at each length, on the same questions whatever the size of a batch.

    Args:
        tasks: the task, in each of its variants.
        model: what it is put to.
        lengths: in tokens.
        settings: how many questions, of what seed, in batches of how many tokens.
        device: where the model is.
        unfinished: what an earlier call had found when it was stopped, and where this one leaves the like.
        progress: called after each batch.

    Raises:
        UserError: a length that is too short.
    """
    unfinished = unfinished or Unfinished()
    parts = [(length, task) for length in lengths for task in tasks]
    for length, task in parts:
        # A length that is too short is told before anything is computed.
        task.items(length, settings)
    results: list[Result] = []
    for length, task in parts:
        items = task.items(length, settings)
        part = f"{length} {dict(task.variant)}"

        def keep(found: Sequence[Likelihood], done: int, total: int, part: str = part, length: int = length) -> None:
            unfinished.keep(part, found)
            if progress is not None:
                progress(length, done, total)

        try:
            found = likelihoods(
                [text for item in items for text in item.texts],
                [size for item in items for size in item.answers],
                model,
                device=device,
                batch_tokens=settings.batch_tokens,
                known=unfinished.known(part),
                after_batch=keep,
            )
        except NotApplicable as why:
            chance = 1 / len(items[0].texts)
            results.append(Result(length, None, None, None, 0, chance, variant=task.variant, note=str(why)))
            continue
        results += task.results(length, items, list(_by_item(items, found)))
    return results


def _by_item(items: Sequence[Item], found: Sequence[Likelihood]) -> Iterator[Sequence[Likelihood]]:
    start = 0
    for item in items:
        yield found[start : start + len(item.texts)]
        start += len(item.texts)
