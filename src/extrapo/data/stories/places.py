"""Where the stories happen: a place has a way to it, and things to see.

The head of a kind of place is: names; with marks between | how one is there | how one goes there | tags, where * is the
name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from extrapo.data.stories.dice import Dice
from extrapo.data.stories.grammar import Template
from extrapo.data.stories.texts import blocks, template


#: name | at | to | what it is good for, then one sight a line.
@dataclass(frozen=True)
class PlaceKind:
    """A kind of place: its names, how one is there and goes there, what it is good for, what one sees."""

    names: tuple[str, ...]
    at: str
    to: str
    tags: frozenset[str]
    sights: tuple[Template, ...]


@dataclass(slots=True)
class Place:
    """A place of one story: `words` are the forms of its name that templates use."""

    kind: PlaceKind
    words: dict[str, str]
    sights: list[Template]

    def sight(self, dice: Dice) -> Template:
        """Something to see there; each in turn before one comes again."""
        if not self.sights:
            self.sights = dice.shuffled(self.kind.sights)
        return self.sights.pop()


def _kind(head: str, sights: Sequence[str]) -> PlaceKind:
    names, at, to, tags = (part.strip() for part in head.split("|"))
    return PlaceKind(tuple(names.split(";")), at, to, frozenset(tags.split()), tuple(map(template, sights)))


PLACES: tuple[PlaceKind, ...] = tuple(_kind(head, sights) for head, sights in blocks("places"))


def choose_places(dice: Dice, count: int) -> list[Place]:
    """Different places, each with one of its names."""
    places = []
    for kind in dice.shuffled(PLACES)[:count]:
        name = dice.pick(kind.names)
        words = {"": f"the {name}", ".at": kind.at.replace("*", name), ".to": kind.to.replace("*", name)}
        places.append(Place(kind, words, []))
    return places
