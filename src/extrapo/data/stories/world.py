"""The world of one story: who there is, who has what, where everybody stands, and what day it is."""

from __future__ import annotations

from collections.abc import Iterable

from extrapo.data.stories.dice import Dice
from extrapo.data.stories.people import Character, Item, cast
from extrapo.data.stories.places import Place, choose_places
from extrapo.data.stories.texts import listed

SEASONS = ("spring", "summer", "autumn", "winter")
WEATHER = {
    "spring": ("sun", "sun", "rain", "wind"),
    "summer": ("sun", "sun", "sun", "rain"),
    "autumn": ("rain", "wind", "fog", "sun"),
    "winter": ("snow", "snow", "wind", "sun"),
}
TIMES = ("morning", "noon", "afternoon", "evening")

_PARTS = listed("items", " ")
_ITEMS = [f"{adjective} {noun}" for adjective in _PARTS["adjectives"] for noun in _PARTS["nouns"]]


class World:
    """What is true in one story at the moment."""

    def __init__(self, dice: Dice, people: int, places: int) -> None:
        self.dice = dice
        self.people: list[Character] = cast(dice, people)
        self.places: list[Place] = choose_places(dice, places)
        self.season = dice.below(4)
        self.day = 0
        self.time = 0
        self.weather = dice.pick(WEATHER[SEASONS[self.season]])
        self._things: list[str] = []
        self._prefixed: dict[tuple[str, str], dict[str, str]] = {}

    def new_item(self, owner: Character) -> Item:
        """A thing that nobody has had so far, which is now the owner's."""
        if not self._things:
            self._things = self.dice.shuffled(_ITEMS)
        item = Item(self._things.pop())
        owner.items.append(item)
        return item

    def item_of(self, owner: Character) -> Item:
        """A thing that the owner has at hand, a new one if there is none."""
        at_hand = [item for item in owner.items if not item.reserved]
        return self.dice.pick(at_hand) if at_hand else self.new_item(owner)

    def give(self, item: Item, giver: Character, taker: Character) -> None:
        """The thing changes hands."""
        giver.items.remove(item)
        taker.items.append(item)

    def next_day(self, days: int) -> None:
        """Some days later, in the morning: other weather, and after a while another season."""
        before = self.day // 40
        self.day += days
        self.season = (self.season + self.day // 40 - before) % 4
        self.weather = self.dice.pick(WEATHER[SEASONS[self.season]])
        self.time = 0

    def tags(self) -> set[str]:
        """What plots may need of the hour."""
        now = {self.weather}
        if self.time == len(TIMES) - 1:
            now.add("night")
        if SEASONS[self.season] in ("spring", "summer"):
            now.add("warm")
        return now

    def words(self, **people: Character | None) -> dict[str, str]:
        """What fills the slots of these letters: {a}, {a.he} and so on."""
        words: dict[str, str] = {}
        for letter, character in people.items():
            if character is not None:
                words.update(self._letter(letter, character))
        return words

    def _letter(self, letter: str, character: Character) -> dict[str, str]:
        key = (letter, character.name)
        if key not in self._prefixed:
            self._prefixed[key] = {letter + suffix: word for suffix, word in character.words.items()}
        return self._prefixed[key]

    def others(self, here: Iterable[Character]) -> list[Character]:
        """Those who are not here, in the order of the cast."""
        present = {character.name for character in here}
        return [character for character in self.people if character.name not in present]


def item_words(item: Item) -> dict[str, str]:
    """{o} and {o.a}."""
    return {"o": f"the {item.name}", "o.a": f"a {item.name}"}
