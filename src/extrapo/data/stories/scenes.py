"""A scene: some characters at a place, something that happens to them, and pauses in which facts come in."""

from __future__ import annotations

from collections.abc import Sequence

from extrapo.data.stories import frames
from extrapo.data.stories.dice import Dice
from extrapo.data.stories.grammar import Template, tell
from extrapo.data.stories.ledger import Ledger
from extrapo.data.stories.people import Character
from extrapo.data.stories.places import Place
from extrapo.data.stories.plots import PAUSE, PLOTS, Plot
from extrapo.data.stories.weave import Weaver
from extrapo.data.stories.world import SEASONS, TIMES, World, item_words
from extrapo.data.stories.writer import Writer

#: Words that a scene looks ahead for who will be needed.
AHEAD = 200


class Scenes:
    """Tells the scenes of one story."""

    def __init__(self, dice: Dice, world: World, ledger: Ledger, weaver: Weaver, writer: Writer) -> None:
        self._dice = dice
        self._world = world
        self._ledger = ledger
        self._weaver = weaver
        self._writer = writer
        self._deck: list[Plot] = []
        self._last: Place | None = None
        self._company_before: list[Character] = []
        self._season = -1
        self._moments: list[Template] = []
        self._memory_of: dict[int, str] = {}
        #: How what happened is spoken of later, in the order in which it happened.
        self.memories: list[str] = []

    def choose(self, *, short: bool = False) -> tuple[Plot, Place]:
        """A plot that was not told for long, and a place where it can happen, now."""
        now = self._world.tags()
        while True:
            for index, plot in enumerate(self._deck):
                needs = plot.needs - now
                places = [place for place in self._world.places if needs <= place.kind.tags]
                if places:
                    del self._deck[index]
                    return plot, self._dice.pick(places)
            self._deck = self._dice.shuffled([plot for plot in PLOTS if plot.short or not short])

    def tell(
        self, pair: Sequence[Character], plot: Plot, place: Place, opening: Sequence[Template], *, room: int
    ) -> list[Character]:
        """A whole scene.

        Args:
            pair: {a} and {b}.
            plot: what happens.
            place: where.
            opening: how the day begins, if it begins.
            room: words that are left for the story; few leave out all that is not the plot.

        Returns:
            who is there at the end.
        """
        here = list(pair)
        for third in self._company(here, plot, room):
            here.append(third)
        words = self._words(here, place)
        self._open(here, place, opening, words, short=room < 150)
        if room > 190:
            self._moment(here)
        if room > 300:
            if self._weaver.pause(here, room=room):
                # Some of it is needed at once.
                self._moment(here)
                self._weaver.pause(here, room=room)
            self._remind(plot, words)
        item = None
        if plot.owns:
            item = self._world.new_item(here[0]) if plot.finds else self._world.item_of(here[0])
            words |= item_words(item)
        for paragraph in plot.paragraphs:
            if paragraph is not PAUSE:
                self._writer.write(paragraph, words)
                continue
            if self._dice.chance(1, 3):
                self._act_in_character(here)
            self._weaver.pause(here, room=room, aside=True)
        if item and plot.gift:
            self._world.give(item, here[0], here[1])
        self._remember(plot, words)
        if room > 400 and self._dice.chance(1, 2):
            self._moment(here)
        self._last = place
        self._company_before = here
        return here

    def _company(self, here: list[Character], plot: Plot, room: int) -> list[Character]:
        """Who comes along: whoever is needed soon, for a fact; else anybody, if the plot takes one more."""
        others = self._world.others(here)
        if not others or (plot.cast == len(here) == 2 and room < 300):
            return []
        coming = self._ledger.coming(self._writer.words + AHEAD)
        wanted = [fact.x for fact in coming if fact.x and fact.x not in here]
        if plot.cast > len(here) or wanted or self._dice.chance(1, 4):
            return [wanted[0] if wanted else self._dice.pick(others)]
        return []

    def _words(self, here: Sequence[Character], place: Place) -> dict[str, str]:
        words = self._world.words(a=here[0], b=here[1], c=here[2] if len(here) > 2 else None)
        words |= {"p" + suffix: word for suffix, word in place.words.items()}
        words["q"] = (self._last or place).words[""]
        time = TIMES[self._world.time]
        words |= {"time": time, "time.in": "At noon" if time == "noon" else f"In the {time}"}
        return words

    def _open(
        self,
        here: Sequence[Character],
        place: Place,
        opening: Sequence[Template],
        words: dict[str, str],
        *,
        short: bool,
    ) -> None:
        begun = False
        for template in opening:
            self._writer.write(template, words, joined=begun)
            begun = True
        if opening and not short:
            self._tell_weather(words)
        ways = frames.STAY if place is self._last else frames.GO if self._last else frames.GO[:-2]
        self._writer.write(self._dice.pick(ways), words, joined=begun)
        for character in here[:2]:
            self._weaver.introduce(character)
        for character in here[2:]:
            if not character.met:
                self._weaver.introduce(character, frames.MEET)
            else:
                ways = frames.STILL if character in self._company_before and not opening else frames.WITH
                self._writer.write(self._dice.pick(ways), self._world.words(x=character), joined=True)
        if not short:
            sights = frames.SIGHTS.get(self._world.weather)
            sight = self._dice.pick(sights) if sights else place.sight(self._dice)
            self._writer.write(sight, words, joined=True)

    def _tell_weather(self, words: dict[str, str]) -> None:
        if self._season != self._world.season:
            self._season = self._world.season
            self._writer.write(self._dice.pick(frames.SEASON[SEASONS[self._season]]), words, joined=True)
        self._writer.write(self._dice.pick(frames.WEATHER[self._world.weather]), words, joined=True)

    def _moment(self, here: Sequence[Character]) -> None:
        """Something small that has nothing to do with what happens."""
        if not self._moments:
            self._moments = self._dice.shuffled(frames.MOMENTS)
        a, b = self._dice.shuffled(here)[:2]
        self._writer.write(self._moments.pop(), self._world.words(a=a, b=b))

    def _act_in_character(self, here: Sequence[Character]) -> None:
        """Somebody does what is like them."""
        a, b = self._dice.shuffled(here)[:2]
        self._writer.write(self._dice.pick(frames.TEMPERS[a.temper]), self._world.words(a=a, b=b))

    def _remind(self, plot: Plot, words: dict[str, str]) -> None:
        """What happens now has happened before."""
        memory = self._memory_of.get(plot.number)
        if memory and self._dice.chance(1, 2):
            self._writer.write(self._dice.pick(frames.AGAIN), words | {"memory": memory})

    def _remember(self, plot: Plot, words: dict[str, str]) -> None:
        if plot.memory:
            out: list[str] = []
            tell(plot.memory, words, self._dice.random, out)
            memory = "".join(out)
            self._memory_of[plot.number] = memory
            if memory not in self.memories:
                self.memories.append(memory)
