"""One is in the singular, all else in the plural."""

from __future__ import annotations

import pytest

from extrapo.words import counted


@pytest.mark.parametrize(("number", "said"), [(0, "0 layers"), (1, "1 layer"), (2, "2 layers"), (5000, "5,000 layers")])
def test_counted(number: int, said: str) -> None:
    assert counted(number, "layer") == said
