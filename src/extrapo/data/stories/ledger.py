"""The facts of one story: which are true, and after how many words each is needed again."""

from __future__ import annotations

from collections.abc import Sequence

from extrapo.data.stories.dice import Dice
from extrapo.data.stories.facts import ENDS, KINDS, OF_THE_WORLD, SEVERAL, Fact
from extrapo.data.stories.people import Character
from extrapo.data.stories.pools import HIDING, POOLS, THINGS
from extrapo.data.stories.world import World

#: Words between a fact and its recall, at least.
NEAREST = 24

#: How many facts of a kind are told in one passage.
GROUP = 3


class Ledger:
    """Makes facts, and says which are due.

    A value belongs to one fact at a time: nobody else loves plums as long as one loves plums. So its word need not
    occur between two tellings of the fact.
    """

    def __init__(self, dice: Dice, world: World, length: int) -> None:
        self._dice = dice
        self._world = world
        self._end = length
        self._free = {kind: dice.shuffled(pool) for kind, pool in POOLS.items()}
        self._taken: set[tuple[str, str, str]] = set()
        self._pending: list[Fact] = []
        self._kinds = dice.shuffled(tuple(KINDS))[: 2 + length // 5000]
        self._stated: dict[str, int] = dict.fromkeys(KINDS, 0)
        self._deck: list[str] = []
        self._owners: set[tuple[str, str]] = set()

    def next_kind(self) -> str:
        """What the next facts are about; each kind of the story in turn."""
        if not self._deck:
            self._deck = self._dice.shuffled(self._kinds)
        return self._deck.pop()

    def lacks(self, kind: str, character: Character) -> bool:
        """Whether a character can still have a fact of the kind."""
        return kind in SEVERAL or (kind not in OF_THE_WORLD and (kind, character.name) not in self._owners)

    def group(self, kind: str, here: Sequence[Character]) -> list[Fact]:
        """Some facts of a kind about those who are here; empty if there is nothing left to tell.

        At least `GROUP` facts of a kind are told at first: an answer is always one of several.
        """
        owners: Sequence[Character | None] = [None] * GROUP
        if kind not in OF_THE_WORLD:
            owners = [character for character in self._dice.shuffled(here) if self.lacks(kind, character)]
        facts = []
        for owner in owners[: GROUP + 1]:
            if self._free[kind] and (fact := self._fact(kind, owner, here)):
                facts.append(fact)
        if len(facts) >= (1 if self._stated[kind] else GROUP):
            self._stated[kind] += len(facts)
            return facts
        for fact in facts:
            self._release(fact)
        return []

    def _fact(self, kind: str, x: Character | None, here: Sequence[Character]) -> Fact | None:
        words = self._world.words(x=x)
        owner = x.name if x else ""
        about, y, item = "", None, None
        if kind in THINGS:
            things = [thing for thing in THINGS[kind] if (kind, owner, thing) not in self._taken]
            if not things:
                return None
            about = self._dice.pick(things)
        elif kind == "promise":
            takers = [other for other in here if other is not x and (kind, owner, other.name) not in self._taken]
            if not takers:
                return None
            y = self._dice.pick(takers)
            words |= self._world.words(y=y)
            about = y.name
        elif kind in ("hidden", "maker") and x:
            item = self._world.new_item(x)
            item.reserved = True
            about = f"the {item.name}"
        self._taken.add((kind, owner, about))
        self._owners.add((kind, owner))
        value = self._free[kind].pop()
        words |= {"t": about, "t.Cap": about.capitalize(), "v": value, "v.Cap": value[0].upper() + value[1:]}
        if kind == "hidden":
            words["prep"] = HIDING[value]
        return Fact(KINDS[kind], value, words, x, y, item)

    def schedule(self, fact: Fact, at: int) -> None:
        """It is needed again, at a distance of which each octave is as likely as another, to the story's end."""
        room = self._end - at
        if room > NEAREST:
            fact.due = at + self._dice.log_uniform(NEAREST, room)
            self._pending.append(fact)

    def due(self, at: int) -> list[Fact]:
        """Facts that are needed by now, the longest due first."""
        return sorted((fact for fact in self._pending if fact.due <= at), key=lambda fact: fact.due)

    def coming(self, at: int) -> list[Fact]:
        """Facts that are needed until then and belong to somebody."""
        return [fact for fact in self._pending if fact.due <= at and fact.x is not None]

    def recalled(self, fact: Fact, at: int, *, kept: bool) -> None:
        """It was needed. Some facts are needed again; what is taken out or kept is not.

        Args:
            fact: which.
            at: words of the text.
            kept: whether what was hidden is out again, or the promise is kept.
        """
        self._pending.remove(fact)
        fact.due = -1
        if kept and fact.kind.name in ENDS:
            self._release(fact)
        elif self._dice.chance(3, 5):
            self.schedule(fact, at)

    def _release(self, fact: Fact) -> None:
        self._free[fact.kind.name].insert(0, fact.value)
        if fact.item:
            fact.item.reserved = False
        owner = fact.x.name if fact.x else ""
        self._taken.discard((fact.kind.name, owner, fact.words["t"]))
        self._owners.discard((fact.kind.name, owner))
