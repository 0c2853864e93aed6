"""How a story is told: scenes make days, days make chapters, and chapters a story of the length that was asked for."""

from __future__ import annotations

from collections.abc import Sequence

from extrapo.data.stories import frames
from extrapo.data.stories.arcs import ARCS
from extrapo.data.stories.dice import Dice
from extrapo.data.stories.grammar import Template, tell
from extrapo.data.stories.ledger import Ledger
from extrapo.data.stories.people import Character
from extrapo.data.stories.places import Place
from extrapo.data.stories.plots import Plot
from extrapo.data.stories.scenes import Scenes
from extrapo.data.stories.weave import Weaver
from extrapo.data.stories.world import TIMES, World
from extrapo.data.stories.writer import Writer

#: Words up to which a story has but a plot; up to which it has only small plots; up to which it has no chapters.
ONE_PLOT, ONE_PAGE, ONE_CHAPTER = 170, 220, 700

#: Words of a chapter, at most, where five to seven would be longer.
CHAPTER = 1500


def tell_story(dice: Dice, length: int) -> Writer:
    """A story of about `length` words."""
    teller = _Teller(dice, length)
    if length <= ONE_CHAPTER:
        teller.short_story()
    else:
        teller.long_story()
    return teller.writer


class _Teller:
    def __init__(self, dice: Dice, length: int) -> None:
        people = 3 if length <= ONE_CHAPTER else min(26, 4 + length // 900)
        places = 4 if length <= ONE_CHAPTER else min(14, 5 + length // 800)
        self.writer = Writer(dice)
        self._dice = dice
        self._length = length
        self._world = World(dice, people, places)
        self._ledger = Ledger(dice, self._world, length - min(150, length // 4))
        self._weaver = Weaver(dice, self._world, self._ledger, self.writer, long=length > ONE_CHAPTER)
        self._scenes = Scenes(dice, self._world, self._ledger, self._weaver, self.writer)
        self._pair = self._world.words(a=self._world.people[0], b=self._world.people[1])

    def short_story(self) -> None:
        """One day of some friends, without chapters."""
        bare = self._length <= ONE_PLOT
        here = self._begin(2 if bare else 3)
        if not bare:
            self._weaver.tell_group(here)
        opening: Sequence[Template] = (self._dice.pick(frames.ONE_DAY),)
        while True:
            plot, place = self._scenes.choose(short=self._length <= ONE_PAGE)
            self._scenes.tell(here[:2], plot, place, opening, room=self._length - self.writer.words)
            if self.writer.words > self._length - 130:
                break
            opening = ()
            self._world.time = min(len(TIMES) - 1, self._world.time + 1)
        if not bare:
            self._weaver.pause(list(here), room=0)
        self._write(frames.SHORT_END)

    def long_story(self) -> None:
        """Chapters, and a question that holds them together."""
        arc = self._dice.pick(ARCS)
        steps = self._dice.shuffled(arc.steps)
        # Five to seven chapters, as in Long Tiny Stories, where these are of a good length.
        chapters = max(2, min(5 + self._dice.below(3), self._length // 350), self._length // CHAPTER)
        for number in range(1, chapters + 1):
            plot_and_place = self._scenes.choose()
            title = arc.title if number == 1 else self._dice.pick(plot_and_place[0].titles)
            pair = self._pair_of(number)
            self.writer.write_text(f"Chapter {number}. {self._line(title, self._world.words(a=pair[0], b=pair[1]))}")
            if number == 1:
                self._begin(3)
                self.writer.write(arc.hook, self._pair)
            else:
                self._world.next_day(self._dice.between(1, 9))
            self._chapter(pair, plot_and_place, self._length * number // chapters - 100)
            if number < chapters and steps:
                self.writer.write(steps.pop(), self._pair)
        self._end(arc.end)

    def _chapter(self, pair: Sequence[Character], first: tuple[Plot, Place], until: int) -> None:
        plot, place = first
        opening = [self._dice.pick(frames.DAYS)]
        while True:
            self._scenes.tell(pair, plot, place, opening, room=self._length - self.writer.words)
            opening = []
            if self.writer.words >= until:
                break
            self._world.time += 1
            if self._world.time == len(TIMES):
                self._write(frames.NIGHT, pair)
                self._world.next_day(1)
                opening = [self._dice.pick(frames.DAYS)]
            plot, place = self._scenes.choose()
        self._write(frames.NIGHT, pair)

    def _begin(self, size: int) -> list[Character]:
        here = self._world.people[:size]
        once = self._dice.below(len(frames.ONCE))
        self.writer.write(frames.ONCE[once], self._pair)
        here[0].met = True
        here[1].met = once in frames.ONCE_WITH_BOTH
        for character in here[1:]:
            self._weaver.introduce(character, frames.MEET)
        return here

    def _pair_of(self, number: int) -> list[Character]:
        """Whom a chapter is about: every other one about the two whom the story is about."""
        lead, friend, *others = self._world.people
        if number % 2 or not others:
            return [lead, friend]
        first = self._dice.pick((lead, friend))
        return self._dice.shuffled([first, self._dice.pick(others)])

    def _end(self, end: Template) -> None:
        self.writer.write(end, self._pair)
        memories = self._dice.shuffled(self._scenes.memories)[:3]
        if len(memories) == 3:
            spoken = dict(zip(("memory", "memory2", "memory3"), memories, strict=True))
            self.writer.write(self._dice.pick(frames.LONG_END), self._pair | spoken)

    def _write(self, templates: Sequence[Template], pair: Sequence[Character] | None = None) -> None:
        words = self._world.words(a=pair[0], b=pair[1]) if pair else self._pair
        self.writer.write(self._dice.pick(templates), words)

    def _line(self, template: Template, words: dict[str, str]) -> str:
        out: list[str] = []
        tell(template, words, self._dice.random, out)
        return "".join(out)
