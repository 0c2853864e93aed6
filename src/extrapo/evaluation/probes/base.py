"""What a task is: questions with one right answer among several, or with one answer that must be the likeliest of all.

By likelihood, not by generation: so a small model, or one that was never taught to answer, can be measured as well.
Where answers tie, each counts as given equally often: a model that knows nothing comes to chance exactly.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Self, final

import numpy as np

from extrapo.config import ProbeSettings
from extrapo.errors import UserError
from extrapo.evaluation.probes.item import Item, Vocabulary
from extrapo.evaluation.probes.likelihood import Likelihood
from extrapo.evaluation.probes.result import Result, measured
from extrapo.registry import Registry

#: Tokens of all questions at a length, which are made at once: 2 GiB.
MOST_TOKENS = 2**28


class Task(ABC):
    """Questions of one kind.

    Args:
        tokenizer: the model's.
    """

    #: What tells this one from others of its name: `{"keys": 10}`.
    variant: Mapping[str, Any] = {}

    def __init__(self, tokenizer: Vocabulary) -> None:
        self.tokenizer = tokenizer

    @classmethod
    def asked(cls, tokenizer: Vocabulary, settings: ProbeSettings) -> Sequence[Self]:
        """The task as the settings want it; several where they name several variants.

        Raises:
            UserError: settings that are of no use to it.
        """
        return [cls(tokenizer)]

    @abstractmethod
    def lengths(self, usual: Sequence[int]) -> list[int]:
        """At which lengths it is asked where none are said.

        Args:
            usual: those of a curve.
        """

    @abstractmethod
    def items(self, length: int, settings: ProbeSettings) -> list[Item]:
        """The questions at this length.

        Raises:
            UserError: too short for what they have to hold.
        """

    def results(self, length: int, items: Sequence[Item], found: Sequence[Sequence[Likelihood]]) -> list[Result]:
        """What the likelihoods of the answers to each item come to."""
        return [measured(items, found, length=length, variant=self.variant)]


class Probe(Task):
    """A task whose items can be made at any length."""

    @abstractmethod
    def item(self, length: int, place: float, generator: np.random.Generator) -> Item:
        """An item that is `length` + 1 tokens long.

        Raises:
            UserError: too short for what it has to hold.
        """

    @final
    def lengths(self, usual: Sequence[int]) -> list[int]:
        return [length for length in usual if self.fits(length)]

    @final
    def items(self, length: int, settings: ProbeSettings) -> list[Item]:
        """As many as `settings.items`, evenly at `settings.places` from the far end of the text to the near one."""
        wanted = questions_wanted(settings)
        if wanted * length > MOST_TOKENS:
            raise UserError(
                f"`items={wanted}` of {length:,} tokens are more than {MOST_TOKENS:,} tokens in all: ask for fewer, or "
                "for a shorter text with `lengths`"
            )
        generator, steps = np.random.default_rng((settings.seed, length)), max(1, settings.places - 1)
        return [self.item(length, i % settings.places / steps, generator) for i in range(wanted)]

    @final
    def fits(self, length: int) -> bool:
        """Whether an item can be that long."""
        try:
            self.item(length, 0.5, np.random.default_rng(0))
        except UserError:
            return False
        return True


def questions_wanted(settings: ProbeSettings) -> int:
    """How many at each length; UserError where `items` is a file, of a task that needs none."""
    if isinstance(settings.items, str):
        raise UserError(f"`items` is a number of questions for this task, not '{settings.items}'")
    return settings.items


#: Name -> task.
PROBES: Registry[Task] = Registry("probe", "extrapo.probes")
