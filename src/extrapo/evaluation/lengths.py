"""How many targets all evaluation lengths can be scored on."""

from __future__ import annotations

import math
from collections.abc import Sequence

from extrapo.errors import UserError


def require_text(lengths: Sequence[int], available: int) -> None:
    """Raise UserError unless a text of so many tokens has a window of every length, and its last target."""
    longest = max(lengths)
    if longest + 1 > available:
        raise UserError(
            f"the evaluation text has {available} tokens, shorter than one window of {longest} (and its last target)"
        )


def tokens_to_score(lengths: Sequence[int], available: int, wanted: int) -> int:
    """How many targets to score: the same for all lengths, so that these differ in context alone.

    The largest number within `wanted` and within the text that every length divides. Where there is none (lengths
    such as 511 and 512 meet too late), the largest that the longest divides.

    Args:
        lengths: evaluation lengths in tokens, none below 1.
        available: tokens of the text.
        wanted: targets to score, at most (raised to one window of the longest length).

    Raises:
        UserError: the text is shorter than one window of the longest length.
    """
    require_text(lengths, available)
    longest = max(lengths)
    scored = min(available - 1, max(wanted, longest))
    common = math.lcm(*lengths)
    unit = common if common <= scored else longest
    return scored // unit * unit
