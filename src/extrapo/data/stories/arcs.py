"""What a long story is about as a whole: a question in the first chapter, news of it, and its end in the last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from extrapo.data.stories.grammar import Template
from extrapo.data.stories.texts import blocks, template


@dataclass(frozen=True)
class Arc:
    """The thread of a long story.

    Args:
        title: of the first chapter.
        hook: how it begins, in the first chapter.
        steps: news of it, for the ends of chapters between.
        end: how it ends.
    """

    title: Template
    hook: Template
    steps: tuple[Template, ...]
    end: Template


def _arc(title: str, lines: Sequence[str]) -> Arc:
    told: dict[str, list[Template]] = {}
    for line in lines:
        part, text = line.split(": ", 1)
        told.setdefault(part, []).append(template(text))
    return Arc(template(title), told["hook"][0], tuple(told["step"]), told["end"][0])


ARCS: tuple[Arc, ...] = tuple(_arc(title, lines) for title, lines in blocks("arcs"))
