"""What a terminal obeys instead of showing it: told in text, so that no name and no text moves, recolours or hides."""

from __future__ import annotations

import re

#: Control characters but for the tab and the end of a line, and those that turn the direction of writing.
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def harmless(text: str) -> str:
    r"""The text with what a terminal would obey written out, as `\x1b`."""
    return OBEYED.sub(lambda found: ascii(found[0])[1:-1], text)
