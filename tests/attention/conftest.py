"""What several tests of attention look at."""

from __future__ import annotations

import pytest
from torch import Tensor

from extrapo.attention import key_bias


@pytest.fixture
def fused_widths(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The widths of queries that come to the fused kernel of a CPU, one after the other."""
    widths: list[int] = []
    forward = key_bias.attention

    def noted(q: Tensor, *rest: object, **more: object) -> object:
        widths.append(q.size(-1))
        return forward(q, *rest, **more)

    monkeypatch.setattr(key_bias, "attention", noted)
    return widths
