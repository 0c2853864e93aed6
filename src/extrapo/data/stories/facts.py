"""What is said once and needed again: the kinds of facts, and how each is told and recalled.

In the templates {x} is whose fact it is, {t} the thing it is about, {v} the answer; {a} and {b} are there and
speak, {y} is to whom something was promised. What is asked for always stands before {v}: the text so far names the
question, never the answer. `lead` opens a passage of facts of one kind and `say` tells one; of `near` (where {x} is
there), `far` (where {x} is elsewhere) and `both` (where {x} and {y} are there), one recalls it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from extrapo.data.stories.grammar import Template
from extrapo.data.stories.people import Character, Item
from extrapo.data.stories.texts import blocks, template

#: Kinds whose answer is known to all, and belongs to nobody.
OF_THE_WORLD = frozenset({"day", "number"})

#: Kinds of which one character can have several, each about another thing.
SEVERAL = frozenset({"colour", "hidden", "promise"})

#: Kinds that end when they are recalled by `near` or `both`: the thing is taken out, the promise is kept.
ENDS = frozenset({"hidden", "promise"})


@dataclass(frozen=True)
class Kind:
    """How facts of one kind are told and recalled."""

    name: str
    lead: tuple[Template, ...]
    say: tuple[Template, ...]
    near: tuple[Template, ...]
    far: tuple[Template, ...]
    both: tuple[Template, ...]


@dataclass(slots=True, eq=False)
class Fact:
    """A fact of one story.

    Args:
        kind: its kind.
        value: the answer.
        words: what fills {x}, {y}, {t}, {prep} and {v}.
        x: whose it is; None if it is the world's.
        y: to whom something was promised.
        item: what was hidden.
        start, end: characters of the text where the answer was last said.
        due: after how many words of the text it is needed again; -1 for never.
    """

    kind: Kind
    value: str
    words: dict[str, str]
    x: Character | None = None
    y: Character | None = None
    item: Item | None = None
    start: int = -1
    end: int = -1
    due: int = -1


def _kind(name: str, lines: Sequence[str]) -> Kind:
    told: dict[str, list[Template]] = {"lead": [], "say": [], "near": [], "far": [], "both": []}
    for line in lines:
        use, text = line.split(": ", 1)
        told[use].append(template(text))
    return Kind(name, **{use: tuple(templates) for use, templates in told.items()})


KINDS: dict[str, Kind] = {name: _kind(name, lines) for name, lines in blocks("facts")}
