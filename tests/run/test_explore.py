"""The explorer of a run: made when training ends, and again from the record or from the checkpoint alone."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from extrapo.cli import run
from extrapo.location import Location
from extrapo.run.explore import PAGE, explore
from extrapo.run.fit import Result
from extrapo.tracking import RunStore


def steps(page: Path) -> list[int]:
    found = re.search(r'id="meta">(.*?)</script>', page.read_text("utf-8"))
    assert found is not None
    return list(json.loads(found[1])["steps"])


def test_a_finished_run_has_its_page_in_its_folder_and_in_the_record(finished: Result) -> None:
    page = finished.checkpoint.parent / PAGE
    assert steps(page) == [0, 6]
    client = RunStore.existing(Location.of(finished.config)).client
    assert PAGE in {artifact.path for artifact in client.list_artifacts(finished.run_id)}


def test_the_command_writes_it_anew(finished: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "mine.html"
    root = ["--root", str(Location.of(finished.config).root)]
    assert run(["show", finished.run_id, "--explore", "--output", str(page), *root]) == 0
    assert "mine.html" in capsys.readouterr().out
    assert page.read_bytes() == (finished.checkpoint.parent / PAGE).read_bytes()
    assert run(["show", "alibi", "--explore"]) == 2
    assert "not a trained run" in capsys.readouterr().err


def test_a_checkpoint_that_somebody_sent_shows_itself(finished: Result, tmp_path: Path) -> None:
    folder = tmp_path / "sent"
    folder.mkdir()
    for name in ("last.ckpt", "config.yaml", "tokenizer.json"):
        shutil.copyfile(finished.checkpoint.parent / name, folder / name)
    page = explore(str(folder / "last.ckpt"), Location(tmp_path / "none"))
    assert page.parent == folder
    assert steps(page) == [6]
