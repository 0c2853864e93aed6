"""What a terminal would obey is shown instead."""

from __future__ import annotations

import pytest

from extrapo.harmless import harmless


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, Ω and 日本", "plain, Ω and 日本"),
        ("a\tb\nc", "a\tb\nc"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("over\rwritten\x08", r"over\rwritten\x08"),
        ("\u202egnp.exe\u2066", r"\u202egnp.exe\u2066"),
        ("a\u2028b", r"a\u2028b"),
        ("\x00\x7f", r"\x00\x7f"),
    ],
)
def test_harmless(text: str, shown: str) -> None:
    assert harmless(text) == shown
    assert harmless(shown) == shown
