"""Who the stories are about: names, kinds, looks and tempers."""

from __future__ import annotations

from dataclasses import dataclass, field

from extrapo.data.stories.dice import Dice
from extrapo.data.stories.frames import TEMPERS
from extrapo.data.stories.texts import listed

_NAMES = listed("names", " ")
GIRLS, BOYS, BEAST_NAMES, KINDS = (_NAMES[head] for head in ("girls", "boys", "beasts", "kinds"))

_LOOKS = listed("names")
CHILD_LOOKS, BEAST_LOOKS = _LOOKS["looks of children"], _LOOKS["looks of beasts"]


@dataclass(slots=True)
class Character:
    """Somebody in a story; `words` are the forms of the name that templates use."""

    name: str
    kind: str
    temper: str
    look: str
    words: dict[str, str]
    items: list[Item] = field(default_factory=list)
    met: bool = False


@dataclass(slots=True, eq=False)
class Item:
    """A thing that somebody owns: an adjective and a noun. `reserved` while a fact says where it is, or whose."""

    name: str
    reserved: bool = False


def cast(dice: Dice, size: int) -> list[Character]:
    """Characters with names of their own: children, animals, or both."""
    mood = dice.below(3)
    names = {"girl": dice.shuffled(GIRLS), "boy": dice.shuffled(BOYS), "": dice.shuffled(BEAST_NAMES)}
    looks = {True: dice.shuffled(BEAST_LOOKS), False: dice.shuffled(CHILD_LOOKS)}
    people = []
    for index in range(size):
        beast = mood == 1 or (mood == 2 and dice.chance(1, 3))
        kind = dice.pick(KINDS) if beast else ("girl", "boy")[dice.below(2)]
        she = dice.chance(1, 2) if beast else kind == "girl"
        name = names["" if beast else kind].pop()
        look = looks[beast][index % len(looks[beast])]
        temper = dice.pick(tuple(TEMPERS))
        people.append(Character(name, kind, temper, look, forms(name, kind, temper, look, she)))
    return people


def forms(name: str, kind: str, temper: str, look: str, she: bool) -> dict[str, str]:
    """Suffix of a slot -> word: "" is the name, ".he" he or she, and so on."""
    he, him, his = ("she", "her", "her") if she else ("he", "him", "his")
    return {
        "": name,
        ".he": he,
        ".him": him,
        ".his": his,
        ".He": he.capitalize(),
        ".His": his.capitalize(),
        ".self": him + "self" if she else "himself",
        ".kind": kind,
        ".temper": temper,
        ".intro": f"a {temper} {kind} with {look}",
    }
