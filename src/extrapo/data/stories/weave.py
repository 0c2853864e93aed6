"""Where a story pauses: facts that are needed again come in, new ones are told."""

from __future__ import annotations

from collections.abc import Sequence

from extrapo.data.stories import frames
from extrapo.data.stories.dice import Dice
from extrapo.data.stories.facts import Fact
from extrapo.data.stories.grammar import Template
from extrapo.data.stories.ledger import GROUP, Ledger
from extrapo.data.stories.people import Character
from extrapo.data.stories.world import World
from extrapo.data.stories.writer import Writer

#: Words of text for each passage of facts.
SPACING = 600

#: Recalls at one pause.
TOGETHER = 2

#: How many are together when facts are told.
GATHERING = 5


class Weaver:
    """Brings facts into one story."""

    def __init__(self, dice: Dice, world: World, ledger: Ledger, writer: Writer, *, long: bool) -> None:
        self._dice = dice
        self._world = world
        self._ledger = ledger
        self._writer = writer
        self._long = long
        self._next_group = 0
        self._decks: dict[int, list[Template]] = {}

    def pause(self, here: list[Character], *, room: int, aside: bool = False) -> bool:
        """Recall what is due, or tell something new. Somebody may come and stay: `here` grows.

        Args:
            here: who is there, two at least.
            room: words that are left.
            aside: whether it is in the middle of something, which goes on after it.

        Returns:
            whether something new was told.
        """
        told = 0
        together = 1 if aside else TOGETHER
        for fact in self._ledger.due(self._writer.words):
            if told == together:
                break
            told += self._recall(fact, here, aside=aside)
        if not told and not aside and self._writer.words >= self._next_group and room > 60:
            self.tell_group(here)
            return True
        return False

    def tell_group(self, here: list[Character]) -> None:
        """Tell some facts of one kind. In a long story others come first, who have facts of their own."""
        kind = self._ledger.next_kind()
        if self._long:
            self._gather([other for other in self._world.others(here) if self._ledger.lacks(kind, other)], here)
        facts = self._ledger.group(kind, here)
        if not facts:
            return
        first, second = self._speakers(here, ())
        speakers = self._world.words(a=first, b=second)
        self._writer.write(self._next(facts[0].kind.lead), speakers)
        for fact in facts:
            self._writer.state(fact, self._next(fact.kind.say), speakers | fact.words, joined=True)
            self._ledger.schedule(fact, self._writer.words)
        self._next_group = self._writer.words + SPACING * len(facts) // GROUP

    def _recall(self, fact: Fact, here: list[Character], *, aside: bool) -> bool:
        if len(self._writer.candidates(fact)) < GROUP:
            return False
        count = len(here)
        templates, kept = self._ways(fact, here)
        if templates is None:
            return False
        begun = aside and len(here) == count
        about = [character for character in (fact.x, fact.y) if character]
        a, b = self._speakers(here, about)
        words = self._world.words(a=a, b=b) | fact.words
        if begun:
            self._writer.write(self._dice.pick(frames.ASIDE), words)
        self._writer.recall(fact, self._next(templates), words, joined=begun)
        self._ledger.recalled(fact, self._writer.words, kept=kept)
        return True

    def _ways(self, fact: Fact, here: list[Character]) -> tuple[Sequence[Template] | None, bool]:
        """Templates that fit those who are here, and whether the fact ends by it; who is missing may come."""
        kind, x, y = fact.kind, fact.x, fact.y
        if x is None:
            return kind.far, False
        missing = [other for other in (x, y) if other and other not in here]
        if missing and (not kind.far or self._dice.chance(2, 5)) and len(here) + len(missing) <= 5:
            for character in missing:
                self._arrive(character, here)
            missing = []
        if kind.both and not missing:
            return kind.both, True
        if kind.near and x in here and len(here) > 1:
            return kind.near, True
        enough = len([one for one in here if one is not x and one is not y]) > 1
        return (kind.far, False) if kind.far and enough else (None, False)

    def introduce(
        self, character: Character, ways: Sequence[Template] = frames.INTRODUCE, *, joined: bool = True
    ) -> None:
        """Say who somebody is, the first time."""
        if not character.met:
            character.met = True
            self._writer.write(self._dice.pick(ways), self._world.words(x=character), joined=True)

    def _next(self, templates: Sequence[Template]) -> Template:
        """One of them; each in turn before one comes again."""
        deck = self._decks.get(id(templates))
        if not deck:
            deck = self._decks[id(templates)] = self._dice.shuffled(templates)
        return deck.pop()

    def _gather(self, others: list[Character], here: list[Character]) -> None:
        if len(others) > 1 and len(here) < GATHERING:
            x, y = self._dice.shuffled(others)[:2]
            self._writer.write(self._dice.pick(frames.GATHER), self._world.words(x=x, y=y))
            for character in (x, y):
                self.introduce(character)
                here.append(character)

    def _arrive(self, character: Character, here: list[Character]) -> None:
        self._writer.write(self._dice.pick(frames.ARRIVE), self._world.words(x=character))
        self.introduce(character)
        here.append(character)

    def _speakers(self, here: Sequence[Character], about: Sequence[Character]) -> tuple[Character, Character]:
        """Two who speak: of those who are here the ones whom it is not about, if there are two."""
        others = [character for character in here if character not in about]
        others += [character for character in here if character in about]
        return others[0], others[1]
