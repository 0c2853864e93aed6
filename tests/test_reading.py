"""What people name is met with what they may have meant."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from extrapo.errors import UserError
from extrapo.reading import read_yaml


@pytest.mark.parametrize(
    ("written", "near"),
    [
        ("kernels", "; near: sweeps/kernels.yaml"),
        ("kernels.yaml", "; near: sweeps/kernels.yaml"),
        ("sweeps/kernel.yml", "; near: sweeps/kernels.yaml"),
        ("rnu.yaml", "; near: run.yml"),
        ("elsewhere/kernels.yaml", "; near: sweeps/kernels.yaml"),
        ("nothing.yaml", ""),
        ("run.yml/kernels.yaml", "; near: sweeps/kernels.yaml"),
    ],
)
def test_a_file_that_is_not_there(written: str, near: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps/kernels.yaml").write_text("a: 1")
    (tmp_path / "run.yml").write_text("a: 1")
    (tmp_path / "kernels.txt").write_text("a: 1")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as told:
        read_yaml(Path(written))
    assert str(told.value).startswith(f"{written}: N")
    assert str(told.value).endswith(f"directory{near}")
    assert read_yaml(tmp_path / "run.yml") == {"a": 1}


def test_a_file_that_may_not_be_read_is_the_one_that_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("run.yaml", "runs.yaml"):
        (tmp_path / name).write_text("a: 1")

    def refused(self: Path, **options: str) -> str:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refused)
    with pytest.raises(UserError, match=r"Permission denied$"):
        read_yaml(tmp_path / "run.yaml")
