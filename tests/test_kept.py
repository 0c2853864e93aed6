"""What is kept is given back as long as what it depends on is the same, and nobody else could have written it."""

from __future__ import annotations

from pathlib import Path

import pytest

from extrapo import kept


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "extrapo"


@pytest.mark.parametrize("text", ["", "a page\nof two lines\n", "\n", "ü\u2028"])
def test_a_text_comes_back(text: str) -> None:
    kept.keep("folder/name.txt", "mark", text)
    assert kept.kept_text("folder/name.txt", "mark") == text
    assert kept.kept_text("folder/name.txt", "another mark") is None
    assert kept.kept_text("folder/other.txt", "mark") is None


def test_only_its_owner_can_write_there(cache: Path) -> None:
    kept.keep("folder/name.txt", "mark", "text")
    assert (cache / "folder").stat().st_mode & 0o777 == 0o700
    (cache / "folder").chmod(0o777)
    assert kept.kept_text("folder/name.txt", "mark") is None


def test_the_state_is_of_the_files_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "package"
    package.mkdir()
    monkeypatch.setattr(kept, "__file__", str(package / "kept.py"))
    (package / "one.py").write_text("1")
    before = kept.state_of_package()
    (package / "one.pyc").write_text("compiled")
    assert kept.state_of_package() == before
    (package / "two.py").write_text("2")
    assert kept.state_of_package() != before
