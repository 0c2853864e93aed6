"""Compiling: where it pays, and what happens where nothing can be compiled."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from extrapo.attention.cpu.codegen import tile_back, tile_forward
from extrapo.attention.cpu.compiler import WORTHWHILE, has_compiler, however_short, worthwhile
from extrapo.encodings.core.bias import Formula


@dataclass(frozen=True)
class Wrong(Formula):
    """It looks at a number, which no compiler can."""

    def __call__(self, content: Tensor, *factors: Tensor) -> Tensor:
        return content if bool(content.sum() > 0) else -content


@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
def test_what_cannot_be_compiled_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "extrapo"):
        assert tile_forward(Wrong(), torch.float32, ()) is None
        assert tile_back(Wrong(), torch.float32, (), ()) is None
    assert [message.split(":")[0] for message in caplog.messages] == [
        "a formula cannot be compiled, it is computed step by step"
    ] * 2
    assert not any("\n" in message for message in caplog.messages)


def test_where_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert not worthwhile(cpu, WORTHWHILE - 1)
    assert worthwhile(cpu, WORTHWHILE) == has_compiler()
    assert not worthwhile(torch.device("cuda"), WORTHWHILE)
    with however_short():
        assert worthwhile(cpu, 1) == has_compiler()
    assert not worthwhile(cpu, 1)
    has_compiler.cache_clear()
    monkeypatch.setenv("TORCH_COMPILE_DISABLE", "1")
    try:
        assert not worthwhile(cpu, WORTHWHILE)
    finally:
        has_compiler.cache_clear()
