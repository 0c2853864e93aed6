"""Compiled functions on disk: found by what they compute, made once, and made again where they are damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from extrapo.attention.cpu import private
from extrapo.attention.cpu.compile_cache import digest, load_or_compile
from extrapo.attention.cpu.compiler import compile_function


def times(factor: float) -> Any:
    return lambda x: (x * factor,)


def test_it_is_known_by_what_it_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(3, 5)
    known = digest(times(2.0), (x,))
    assert digest(lambda other: (other * 2.0,), (x,)) == known
    table = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    others = [
        digest(times(2.5), (x,)),
        digest(times(2.0), (x.double(),)),
        digest(times(2.0), (torch.rand(5, 3).mT,)),
        digest(lambda x: (x * table,), (x,)),
        digest(lambda x: (x * (table + 1),), (x,)),
    ]
    monkeypatch.setitem(private.OPTIONS, "cpp.threads", 2)
    others.append(digest(times(2.0), (x,)))
    assert len({known, *others}) == 7


@pytest.mark.slow
@pytest.mark.usefixtures("cpp_compiler")
def test_it_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))

    def function(x: Tensor) -> tuple[Tensor, ...]:
        return (x.exp() * 2 + 1,)

    def never() -> Any:
        pytest.fail("compiled again")

    x, other = torch.rand(3, 5), torch.rand(7, 2)
    assert compile_function(function, x) is not None
    (file,) = (tmp_path / "extrapo").glob("*.bin")
    loaded = load_or_compile(function, (x,), never)
    torch.testing.assert_close(loaded(other)[0], function(other)[0])
    file.write_bytes(file.read_bytes()[:100])
    again = compile_function(function, x)
    assert again is not None
    torch.testing.assert_close(again(other)[0], function(other)[0])
    torch.testing.assert_close(load_or_compile(function, (x,), never)(other)[0], function(other)[0])
