"""Compiled functions on disk: found by what they compute, made once, and made again where they are damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from extrapo.attention.cpu.compile_cache import artifact, digest
from extrapo.attention.cpu.compiler import OPTIONS, compiled, has_compiler


def times(factor: float) -> Any:
    return lambda x: (x * factor,)


def test_it_is_known_by_what_it_computes() -> None:
    x = torch.rand(3, 5)
    known = digest(times(2.0), (x,), OPTIONS)
    assert digest(lambda other: (other * 2.0,), (x,), OPTIONS) == known
    table = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    others = [
        digest(times(2.5), (x,), OPTIONS),
        digest(times(2.0), (x.double(),), OPTIONS),
        digest(times(2.0), (torch.rand(5, 3).mT,), OPTIONS),
        digest(times(2.0), (x,), {**OPTIONS, "cpp.threads": 2}),
        digest(lambda x: (x * table,), (x,), OPTIONS),
        digest(lambda x: (x * (table + 1),), (x,), OPTIONS),
    ]
    assert len({known, *others}) == 7


@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
def test_it_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))

    def function(x: Tensor) -> tuple[Tensor, ...]:
        return (x.exp() * 2 + 1,)

    def never() -> Any:
        pytest.fail("compiled again")

    x, other = torch.rand(3, 5), torch.rand(7, 2)
    assert compiled(function, x) is not None
    (place,) = (tmp_path / "extrapo").glob("*.bin")
    found = artifact(function, (x,), OPTIONS, never)
    torch.testing.assert_close(found(other)[0], function(other)[0])
    place.write_bytes(place.read_bytes()[:100])
    again = compiled(function, x)
    assert again is not None
    torch.testing.assert_close(again(other)[0], function(other)[0])
    torch.testing.assert_close(artifact(function, (x,), OPTIONS, never)(other)[0], function(other)[0])
