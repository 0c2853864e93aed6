"""Compiling: where it pays, and what happens where nothing can be compiled."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from extrapo.attention import force_compile
from extrapo.attention.cpu.codegen import tile_backward, tile_forward
from extrapo.attention.cpu.compiler import MIN_LOGITS, has_compiler, should_compile
from extrapo.encodings import Logit


@dataclass(frozen=True)
class Wrong(Logit):
    """It looks at a number, which no compiler can."""

    def __call__(self, score: Tensor, *factors: Tensor) -> Tensor:
        return score if bool(score.sum() > 0) else -score


@pytest.fixture
def asked_anew() -> Iterator[None]:
    """Whether there is a compiler is asked once in a process: here again."""
    has_compiler.cache_clear()
    yield
    has_compiler.cache_clear()


@pytest.mark.slow
@pytest.mark.usefixtures("cpp_compiler")
def test_what_cannot_be_compiled_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "extrapo"):
        assert tile_forward(Wrong(), torch.float32, ()) is None
        assert tile_backward(Wrong(), torch.float32, (), ()) is None
    assert [message.split(":")[0] for message in caplog.messages] == [
        "a formula cannot be compiled, it is computed step by step"
    ] * 2
    assert not any("\n" in message for message in caplog.messages)


def test_where_it_pays() -> None:
    assert not should_compile(MIN_LOGITS - 1)
    assert should_compile(MIN_LOGITS) == has_compiler()
    with force_compile():
        assert should_compile(1) == has_compiler()
    assert not should_compile(1)


@pytest.mark.usefixtures("asked_anew")
def test_it_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_COMPILE_DISABLE", "1")
    assert not should_compile(MIN_LOGITS)
