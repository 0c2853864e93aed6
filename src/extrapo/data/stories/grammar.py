"""Templates: `[one|another]` is a choice, `{a.his}` is filled in, `{#mood}` is one of a list of words.

A choice among whole sentences may tell two of them, in their order: they are written to stand together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple


class Slot(NamedTuple):
    """A gap in a template: the key of what fills it."""

    key: str


class Choice(NamedTuple):
    """One of these is told; of whole sentences, two now and then."""

    options: tuple[Template, ...]
    sentences: bool


#: What a template is made of; telling it goes through the parts from left to right.
Template = tuple["str | Slot | Choice", ...]

#: The slots of the value of a fact. Where it lands in the text is what annotations are made of.
VALUES: Final = ("v", "v.Cap")

_TOKEN = re.compile(r"[\[\]|]|\{[^}]*\}|[^\[\]|{]+")


class WordLists:
    """Lists of words by name; each becomes one choice, which all templates share."""

    def __init__(self, lists: Mapping[str, Sequence[str]]) -> None:
        self._choices = {
            name: Choice(tuple((word,) for word in words), sentences=False) for name, words in lists.items()
        }

    def choice(self, name: str) -> Choice:
        """Raises ValueError where there is no such list."""
        if name not in self._choices:
            raise ValueError(f"there is no list of words '{name}'")
        return self._choices[name]


def parse(text: str, lists: WordLists) -> Template:
    """A template from its text.

    Raises:
        ValueError: a bracket too many or too few, or an unknown list. The texts are ours: importing them parses all.
    """
    tokens = _TOKEN.findall(text)
    template, rest = _sequence(tokens, 0, lists)
    if rest != len(tokens):
        raise ValueError(f"a bracket too many: {text}")
    return template


def _sequence(tokens: Sequence[str], at: int, lists: WordLists) -> tuple[Template, int]:
    parts: list[str | Slot | Choice] = []
    while at < len(tokens) and tokens[at] not in ("|", "]"):
        token = tokens[at]
        at += 1
        if token == "[":
            options, at = _options(tokens, at, lists)
            parts.append(Choice(options, all(map(_ends_a_sentence, options))))
        elif token.startswith("{#"):
            parts.append(lists.choice(token[2:-1]))
        elif token.startswith("{"):
            parts.append(Slot(token[1:-1]))
        else:
            parts.append(token)
    return tuple(parts), at


def _options(tokens: Sequence[str], at: int, lists: WordLists) -> tuple[tuple[Template, ...], int]:
    options = []
    while True:
        option, at = _sequence(tokens, at, lists)
        options.append(option)
        if at == len(tokens):
            raise ValueError(f"a bracket is not closed: {''.join(tokens)}")
        at += 1
        if tokens[at - 1] == "]":
            return tuple(options), at


def _ends_a_sentence(option: Template) -> bool:
    last = option[-1] if option else ""
    return isinstance(last, str) and last.endswith((".", "!", "?", '."', '?"', '!"'))


def tell(template: Template, words: Mapping[str, str], random: Callable[[], float], out: list[str]) -> int:
    """Append the pieces of a telling to `out`.

    Args:
        template: what is told.
        words: what fills the slots.
        random: uniform in [0, 1).
        out: gets the pieces.

    Returns:
        where in `out` the value of the fact is, -1 if it is not told.
    """
    value = -1
    for part in template:
        # The exact type, which is quicker than isinstance: this loop writes every word.
        if type(part) is str:
            out.append(part)
        elif type(part) is Slot:
            if part.key in VALUES:
                value = len(out)
            out.append(words[part.key])
        elif type(part) is Choice:
            options = part.options
            chosen = int(random() * len(options))
            if part.sentences and chosen and random() < 0.5:
                tell(options[int(random() * chosen)], words, random, out)
                out.append(" ")
            found = tell(options[chosen], words, random, out)
            if found >= 0:
                value = found
    return value


def slots(template: Template) -> set[str]:
    """The keys of all gaps, those inside choices included."""
    found: set[str] = set()
    for part in template:
        if isinstance(part, Slot):
            found.add(part.key)
        elif isinstance(part, Choice):
            found |= {key for option in part.options for key in slots(option)}
    return found
