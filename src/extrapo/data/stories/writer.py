"""The text as it grows: paragraphs, how many words there are, and where answers stand."""

from __future__ import annotations

from collections.abc import Mapping

from extrapo.data.stories.annotations import RecallPoint
from extrapo.data.stories.dice import Dice
from extrapo.data.stories.facts import Fact
from extrapo.data.stories.grammar import Template, tell

BREAK = "\n\n"


class Writer:
    """Writes one story."""

    def __init__(self, dice: Dice) -> None:
        self.random = dice.random
        self.words = 0
        self.points: list[RecallPoint] = []
        self._texts: list[str] = []
        self._length = 0
        self._said: dict[str, dict[str, None]] = {}

    @property
    def text(self) -> str:
        """All that is written."""
        return "".join(self._texts)

    def write(self, template: Template, words: Mapping[str, str], *, joined: bool = False) -> None:
        """Add a paragraph, or with `joined` go on in the last one."""
        out: list[str] = []
        tell(template, words, self.random, out)
        self._add("".join(out), joined)

    def write_text(self, text: str) -> None:
        """Add a paragraph as it is."""
        self._add(text, joined=False)

    def state(self, fact: Fact, template: Template, words: Mapping[str, str], *, joined: bool = False) -> None:
        """Tell a fact for the first time."""
        self._tell_fact(fact, template, words, joined)
        self._said.setdefault(fact.kind.name, {})[fact.value] = None

    def recall(self, fact: Fact, template: Template, words: Mapping[str, str], *, joined: bool = False) -> None:
        """Need a fact again: a recall point."""
        statement = (fact.start, fact.end)
        capital = self._tell_fact(fact, template, words, joined)
        said = self.candidates(fact)
        candidates = tuple(value[0].upper() + value[1:] for value in said) if capital else tuple(said)
        self.points.append(RecallPoint((fact.start, fact.end), statement, fact.kind.name, candidates))

    def candidates(self, fact: Fact) -> tuple[str, ...]:
        """The answers of the kind that the text has given, in the order of the first time."""
        return tuple(self._said.get(fact.kind.name, ()))

    def _tell_fact(self, fact: Fact, template: Template, words: Mapping[str, str], joined: bool) -> bool:
        """Whether the answer begins with a capital where a sentence begins."""
        out: list[str] = []
        index = tell(template, words, self.random, out)
        text = "".join(out)
        start = self._add(text, joined) + sum(map(len, out[:index]))
        fact.start, fact.end = start, start + len(fact.value)
        return out[index][0] != fact.value[0]

    def _add(self, text: str, joined: bool) -> int:
        """Where the text begins."""
        if text[0].islower():
            text = text[0].upper() + text[1:]
        if self._texts:
            between = " " if joined else BREAK
            self._texts.append(between)
            self._length += len(between)
        start = self._length
        self._texts.append(text)
        self._length += len(text)
        self.words += text.count(" ") + 1
        return start
