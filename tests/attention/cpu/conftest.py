"""What several tests of the wing need: a compiler, tiles of a size, and a look at the fused kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from torch import Tensor

from extrapo.attention import tiling
from extrapo.attention.cpu import fold
from extrapo.attention.cpu.compiler import has_compiler

TileRows = Callable[[int], AbstractContextManager[None]]


@pytest.fixture(scope="session")
def cpp_compiler() -> None:
    """A C++ compiler, or the test is skipped."""
    if not has_compiler():
        pytest.skip("no C++ compiler")


@pytest.fixture(scope="session")
def tile_rows() -> TileRows:
    """A context in which full tiles have so many rows, a power of two."""

    @contextmanager
    def of(rows: int) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tiling, "MIN_ROWS", rows)
            patch.setattr(tiling, "MAX_ROWS", rows)
            yield

    return of


@pytest.fixture
def fused_widths(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The widths of queries that come to the fused kernel of a CPU, one after the other."""
    widths: list[int] = []
    forward = fold.fused_attention

    def noted(q: Tensor, *rest: Tensor | float | None) -> object:
        widths.append(q.size(-1))
        return forward(q, *rest)

    monkeypatch.setattr(fold, "fused_attention", noted)
    return widths
