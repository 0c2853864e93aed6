"""What there is to say of an encoding where no model is computed: its family, its paper, and how sure that is.

The encodings say it themselves, and to load them takes seconds, which are PyTorch's: what they said last is kept, of
those that are the package's own, until a file of the package changes.
"""

from __future__ import annotations

import json
from contextlib import suppress
from functools import cache
from typing import NamedTuple

from extrapo.errors import UserError
from extrapo.kept import keep, kept_text, state_of_package

#: The package as it was loaded: what its encodings say is kept for that one, whatever becomes of its files.
PACKAGE = state_of_package()
#: The file of what is kept.
FILE = "known/encodings.json"
#: Families of encodings, in the order in which they are listed, and of the markers and dashes that they have.
FAMILIES = (
    *("static bias", "rotation", "contextual bias", "contextual transform", "no position", "own logits"),
    *("added to the embeddings", "sampled or segmented"),
)
#: What is said of an encoding that is none of this installation.
STRANGER = ("not in this catalogue", "-", "-", "own logits")


class Known(NamedTuple):
    """What is known of an encoding.

    Args:
        name: as it was asked for; of a pattern of layers, one of its names.
        source: the paper, and its year.
        certainty: `certain`, `reconstruction`, or a dash.
        summary: one line.
        family: one of FAMILIES, see `encodings.family`.
    """

    name: str
    source: str
    certainty: str
    summary: str
    family: str


def known(name: str) -> tuple[Known, ...]:
    """What is known of each encoding of a name, which may be a composition or a pattern of layers.

    Of those that are not the package's own it is asked each time: one may be registered, or replaced, in a notebook.
    """
    if name in _kept():
        return _kept()[name]
    found, is_own = _asked(name)
    if is_own:
        _kept()[name] = found
        keep(FILE, PACKAGE, json.dumps(_kept()))
    return found


@cache
def _kept() -> dict[str, tuple[Known, ...]]:
    """By name, what was kept when this was first asked for, and what came since."""
    with suppress(ValueError, TypeError, AttributeError):
        read = json.loads(kept_text(FILE, PACKAGE) or "{}")
        found = {name: tuple(Known(*map(str, one)) for one in every) for name, every in read.items()}
        if all(every and {one.family for one in every} <= set(FAMILIES) for every in found.values()):
            return found
    return {}


def _asked(name: str) -> tuple[tuple[Known, ...], bool]:
    """What the encodings say of themselves, and whether all of them are the package's own."""
    from extrapo import encodings
    from extrapo.encodings.family import family
    from extrapo.encodings.per_layer import pattern

    try:
        names = list(dict.fromkeys(pattern(name)))
    except UserError:
        names = [name]
    found, is_own = [], True
    for one in names:
        try:
            parts, paper = encodings.split(one), encodings.paper(one)
        except UserError:
            found.append(Known(one, *STRANGER))
            is_own = False
            continue
        source = f"{paper.source}, {paper.year}" if paper.year else paper.source
        found.append(Known(one, source, paper.certainty, paper.summary, family(one)))
        is_own = is_own and all(encodings.get(part).__module__.startswith("extrapo.") for part in parts)
    return tuple(found), is_own
