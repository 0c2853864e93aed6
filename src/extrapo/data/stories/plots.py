"""What can happen in a scene: plots, read from texts.

The head of a plot is its titles for a chapter, with `|` between them. Lines such as `needs: shore`, `cast: 3`,
`gift: a b` say what it needs and what it changes, `memory:` how people speak of it later. Every other line is a
paragraph, in which {a}, {b} and {c} are who is there, {o} a thing that {a} owns ({o.a}: "a tin box") and {p.at} the
place; `~` is a pause, where the story may turn to other things.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from extrapo.data.stories.grammar import Template, slots
from extrapo.data.stories.texts import blocks, template

#: In place of a paragraph: a pause.
PAUSE: Template = ()

#: Texts of plots, and whether they fit a story of one page.
_FILES = {
    "adventures": False,
    "creatures": False,
    "games": False,
    "quarrels": False,
    "tales": False,
    "works": False,
    "shorts": True,
}

_SETTING = re.compile(r"(needs|cast|gift|finds|memory): (.*)")


@dataclass(frozen=True)
class Plot:
    """A small plot.

    Args:
        number: which plot it is.
        titles: for a chapter that begins with it.
        paragraphs: templates; `PAUSE` between them where the story may turn aside.
        cast: how many take part.
        needs: tags that its place, or the hour, must have.
        gift: who gives {o} to whom, by letter; empty where it stays.
        finds: whether {o} is new to {a}.
        memory: how people speak of it later.
        short: whether it fits a story of one page.
        owns: whether it is about a thing, {o}.
    """

    number: int
    titles: tuple[Template, ...]
    paragraphs: tuple[Template, ...]
    cast: int
    needs: frozenset[str]
    gift: tuple[str, ...]
    finds: bool
    memory: Template | None
    short: bool
    owns: bool


def _read() -> Iterator[Plot]:
    number = 0
    for file, short in _FILES.items():
        for head, lines in blocks(file):
            yield _plot(number, head, lines, short)
            number += 1


def _plot(number: int, head: str, lines: Sequence[str], short: bool) -> Plot:
    settings = {found[1]: found[2] for line in lines if (found := _SETTING.fullmatch(line))}
    told = [line for line in lines if not _SETTING.fullmatch(line)]
    paragraphs = tuple(PAUSE if line == "~" else template(line) for line in told)
    return Plot(
        number=number,
        titles=tuple(map(template, head.split("|"))),
        paragraphs=paragraphs,
        cast=int(settings.get("cast", 2)),
        needs=frozenset(settings.get("needs", "").split()),
        gift=tuple(settings.get("gift", "").split()),
        finds="finds" in settings,
        memory=template(settings["memory"]) if "memory" in settings else None,
        short=short,
        owns=any(key.split(".")[0] == "o" for paragraph in paragraphs for key in slots(paragraph)),
    )


PLOTS: tuple[Plot, ...] = tuple(_read())
