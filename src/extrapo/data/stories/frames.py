"""What stands around the plots: beginnings, the weather, ways from place to place, moments, ends of days."""

from __future__ import annotations

from extrapo.data.stories.grammar import Template
from extrapo.data.stories.texts import templates

Templates = tuple[Template, ...]

_FRAMES = templates("frames")


def _each(group: str) -> dict[str, Templates]:
    """Those whose heads are GROUP WORD, by word."""
    return {head.split()[1]: lines for head, lines in _FRAMES.items() if head.startswith(f"{group} ")}


#: How a story begins; which of them say who {b} is, too.
ONCE = _FRAMES["once"]
ONCE_WITH_BOTH = (1, 2, 5)

#: Somebody is introduced, among others and alone.
MEET, INTRODUCE = _FRAMES["meet"], _FRAMES["introduce"]

#: A day begins, in a short story and in a chapter; it ends.
ONE_DAY, DAYS, NIGHT = _FRAMES["one day"], _FRAMES["days"], _FRAMES["night"]

#: The way to a place (the last two: from another one, or to be shown it); the same place again.
GO, STAY = _FRAMES["go"], _FRAMES["stay"]

#: Who else is there: comes along, is still there, joins in the middle, joins as one of two.
WITH, STILL, ARRIVE, GATHER = _FRAMES["with"], _FRAMES["still"], _FRAMES["arrive"], _FRAMES["gather"]

#: What happens stops for a moment; it has happened before.
ASIDE, AGAIN = _FRAMES["aside"], _FRAMES["again"]

SHORT_END, LONG_END = _FRAMES["short end"], _FRAMES["long end"]

#: By weather: what is said of it, and what one sees in it; by season.
WEATHER, SIGHTS, SEASON = _each("weather"), _each("sights"), _each("season")

#: A sentence or two between what happens, about what one sees, feels, asks and thinks.
MOMENTS = templates("moments")["moments"]

#: Temper -> how a character acts when nothing asks for it.
TEMPERS = templates("tempers")
