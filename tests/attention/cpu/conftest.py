"""What several tests of the wing need: a compiler, or none, and tiles of a size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from extrapo.attention import tiling
from extrapo.attention.cpu.library import compiler, shortcoming, writable

TileRows = Callable[[int], AbstractContextManager[None]]


@pytest.fixture(scope="session")
def cpp_compiler() -> None:
    """A C++ compiler, or the test is skipped."""
    if (why := shortcoming()) is not None:
        pytest.skip(why)


@pytest.fixture
def asked_anew() -> Iterator[None]:
    """What compiles, and where to, is asked once in a process: here again."""
    answers = compiler, shortcoming, writable
    for answer in answers:
        answer.cache_clear()
    yield
    for answer in answers:
        answer.cache_clear()


@pytest.fixture(scope="session")
def tile_rows() -> TileRows:
    """A context in which full tiles of PyTorch's operations have so many rows, a power of two."""

    @contextmanager
    def of(rows: int) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tiling, "MIN_ROWS", rows)
            patch.setattr(tiling, "MAX_ROWS", rows)
            yield

    return of
