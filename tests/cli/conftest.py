"""What the tests of the command line share: how a mistake must end."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.fixture
def one_line(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Reads what stands on stderr, which is the one line of a mistake."""

    def read() -> str:
        said = capsys.readouterr()
        assert said.err.startswith("extrapo: error: "), said.err
        assert said.err.count("\n") == 1, said.err
        assert "Traceback" not in said.err
        return said.err

    return read
