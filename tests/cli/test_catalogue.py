"""extrapo list: what there is, for people and as JSON."""

from __future__ import annotations

import json

import pytest

from extrapo import encodings, kernels
from extrapo.cli import run


@pytest.mark.parametrize("what", ["encodings", "kernels", "corpora"])
def test_list(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", what, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    known = {"encodings": encodings.names(), "kernels": kernels.names()}
    names = [row["name"] for row in rows]
    assert names == known.get(what, names)
    if what != "corpora":
        keys = {"name", "paper", "positions", "transform", "kernel", "impls", "parameters", "summary"}
        assert all(set(row) > keys for row in rows)
    assert run(["list", what]) == 0
    assert all(name in capsys.readouterr().out for name in names[:1])
