"""The shape of a GPT: what does not divide, and what it shares with a run."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from extrapo.config import GPTConfig


def test_defaults_of_its_own() -> None:
    shape = GPTConfig()
    assert (shape.vocab_size, shape.heads, shape.dim, shape.train_length) == (50_304, 8, 512, 1024)


@pytest.mark.parametrize(
    "wrong", [{"lenghts": (1,)}, {"layers": 0}, {"dropout": 1.0}, {"logit_scale": 0}, {"heads": None}, {"swap_step": 3}]
)
def test_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        GPTConfig(**wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"heads": 7, "dim": 512}, "7 heads do not divide the width 512; 8 would"),
        ({"kv_heads": 3}, "3 key-value heads do not divide 8 heads"),
    ],
)
def test_what_does_not_divide(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        GPTConfig(**wrong)  # type: ignore[arg-type]
