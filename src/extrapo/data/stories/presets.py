"""Named mixtures of lengths, and the story of each number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from extrapo.data.stories.annotations import RecallPoint
from extrapo.data.stories.dice import Dice, mix
from extrapo.data.stories.telling import tell_story
from extrapo.errors import unknown

#: Changes with the texts: with every word of a template, pool or list.
VERSION = 1

#: Numbers from here on are the validation split: both can grow, and never meet.
VALIDATION = 1 << 40


@dataclass(frozen=True)
class Preset:
    """How long the stories are.

    Args:
        number: goes into the seed of a story; two presets share none.
        shortest, longest: words.
        log_uniform: whether each octave of lengths is as likely as another, or else each length.
        summary: one line.
    """

    number: int
    shortest: int
    longest: int
    log_uniform: bool
    summary: str


PRESETS: dict[str, Preset] = {
    "tiny-stories-like": Preset(1, 100, 500, True, "100 to 500 words, one or two small plots, as TinyStories has them"),
    "long-stories": Preset(2, 500, 32_000, True, "500 to 32,000 words, chapters from 700 on, octaves alike"),
    "long-stories-0-5k": Preset(3, 500, 5_000, False, "500 to 5,000 words, in chapters from 700 on"),
    "long-stories-5k-10k": Preset(4, 5_000, 10_000, False, "5,000 to 10,000 words in chapters"),
}


@dataclass(frozen=True)
class Story:
    """A story and what in it needs what was said before.

    Args:
        text: paragraphs with blank lines between them, and no line end after the last.
        points: recall points in the order of their answers.
        words: how many there are.
    """

    text: str
    points: tuple[RecallPoint, ...]
    words: int


def story(preset: str, index: int, *, seed: int = 0) -> Story:
    """The story of a number; it depends on the arguments alone, on every machine.

    Raises:
        UserError: no such preset.
    """
    if preset not in PRESETS:
        raise unknown("preset of stories", preset, PRESETS)
    settings = PRESETS[preset]
    dice = Dice(mix(VERSION, settings.number, seed, index))
    if settings.log_uniform:
        length = dice.log_uniform(settings.shortest, settings.longest)
    else:
        length = dice.between(settings.shortest, settings.longest)
    writer = tell_story(dice, length)
    return Story(writer.text, tuple(writer.points), writer.words)


def stories(preset: str, count: int, *, start: int = 0, seed: int = 0) -> Iterator[Story]:
    """The stories start, start + 1 ... of `count`."""
    return (story(preset, index, seed=seed) for index in range(start, start + count))


def recall_points(document: Story) -> list[RecallPoint]:
    """(answer, statement, kind, candidates) of each place that needs what was said before, in the order of the text."""
    return list(document.points)
