"""The two ways a command fails: a mistake of the user's (exit code 2) and a fault of the machine's (1)."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """A mistake that the user can mend; its one-line message says how. Exit code 2."""


class MachineError(RuntimeError):
    """What the machine refused (a full disk, a folder without write permission). Exit code 1."""


#: More names than this are only listed where none is near the one given.
MANY = 30


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that is not there: what is near it, and what there is."""
    known = sorted(known)
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    if near and len(known) > MANY:
        return UserError(f"unknown {kind} '{name}'; did you mean '{near[0]}'?")
    hint = f"did you mean '{near[0]}'? " if near else ""
    return UserError(f"unknown {kind} '{name}'; {hint}known: {', '.join(known)}")


class NotApplicable(UserError):
    """The model is not defined at this length (a learned table past its end); a curve says so and goes on."""
