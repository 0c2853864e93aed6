"""A further rank is started by the first one, and by nobody else."""

from __future__ import annotations

import pytest

from extrapo.cli import run
from extrapo.errors import UserError
from extrapo.sweep.rank import RANKS, rank_main


def test_a_rank_is_not_for_people(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RANKS, raising=False)
    with pytest.raises(UserError, match="how a sweep starts the ranks"):
        rank_main()
    assert run(["--help"]) == 0
    out = capsys.readouterr().out
    assert "sweep" in out
    assert "worker" not in out
