"""A write either replaces a file whole or leaves what was there, and nothing beside it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from extrapo.errors import MachineError, UserError
from extrapo.files import atomic_write, check_writable, locked, partial_of, private_folder, write_text


def test_a_file_and_its_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.txt"
    assert write_text(path, "täxt\n") == path
    assert path.read_text("utf-8") == "täxt\n"
    assert [p.name for p in path.parent.iterdir()] == ["b.txt"]


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_replaced_whole(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old and longer")
    with atomic_write(path, durable=durable) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old and longer"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with pytest.raises(TypeError), atomic_write(path) as file:
        file.writelines([b"half", "not bytes"])  # type: ignore[list-item]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_text_that_is_no_utf_8_leaves_what_was_there(tmp_path: Path) -> None:
    path = write_text(tmp_path / "x", "good")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "half \ud800")
    assert path.read_text() == "good"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_told_and_leaves_what_was_there(tmp_path: Path) -> None:
    """/dev/full refuses every byte, as a full disk does."""
    path = tmp_path / "x"
    path.write_bytes(b"old")
    partial = partial_of(path)
    partial.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"), atomic_write(path) as file:
        file.write(b"half")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
def test_what_a_killed_process_has_left_goes_with_the_next_write(tmp_path: Path) -> None:
    """What another process is writing stays."""
    path = tmp_path / "x"
    mine = partial_of(path).name
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    at_work = tmp_path / mine.replace(str(os.getpid()), str(os.getppid()))
    for left in (tmp_path / mine.replace(str(os.getpid()), dead.stdout.strip()), at_work):
        left.write_bytes(b"half")
    write_text(path, "whole")
    assert sorted(tmp_path.iterdir()) == sorted([at_work, path])


def test_a_private_folder_is_closed_to_others(tmp_path: Path) -> None:
    folder = tmp_path / "extrapo" / "compiled"
    assert private_folder(folder).stat().st_mode & 0o777 == 0o700
    folder.parent.chmod(0o777)
    private_folder(folder)
    assert folder.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o770, 0o702])
def test_a_folder_that_others_could_write_is_not_used(tmp_path: Path, mode: int) -> None:
    """It could be closed; what lies there may be theirs all the same."""
    folder = private_folder(tmp_path / "extrapo" / "compiled")
    folder.chmod(mode)
    with pytest.raises(PermissionError, match="others may write"):
        private_folder(folder)


def test_a_folder_that_others_could_put_another_in_place_of_is_not_used(tmp_path: Path) -> None:
    folder = tmp_path / "extrapo" / "compiled"
    tmp_path.chmod(0o1777)
    assert private_folder(folder) == folder
    tmp_path.chmod(0o777)
    with pytest.raises(PermissionError, match="everybody may write"):
        private_folder(folder)


def test_a_link_of_ones_own_is_followed_once(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "extrapo").symlink_to(tmp_path / "elsewhere")
    assert private_folder(tmp_path / "extrapo" / "compiled") == tmp_path / "elsewhere" / "compiled"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
@pytest.mark.parametrize("planted", ["extrapo", "extrapo/compiled"])
def test_a_folder_that_another_user_has_put_there_is_not_used(tmp_path: Path, planted: str) -> None:
    (tmp_path / planted).mkdir(parents=True)
    os.chown(tmp_path / planted, 65_534, 65_534)
    with pytest.raises(PermissionError, match="another user"):
        private_folder(tmp_path / "extrapo" / "compiled")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_in_another_users_is_not_used(tmp_path: Path) -> None:
    """They could rename it after it was looked at, and so they could turn a link."""
    (tmp_path / "theirs" / "extrapo" / "compiled").mkdir(parents=True, mode=0o700)
    os.chown(tmp_path / "theirs", 65_534, 65_534)
    with pytest.raises(PermissionError, match="folder belongs to another user"):
        private_folder(tmp_path / "theirs" / "extrapo" / "compiled")
    (tmp_path / "mine").mkdir()
    (tmp_path / "extrapo").symlink_to(tmp_path / "mine")
    os.lchown(tmp_path / "extrapo", 65_534, 65_534)
    with pytest.raises(PermissionError, match="link belongs to another user"):
        private_folder(tmp_path / "extrapo" / "compiled")
    assert not list((tmp_path / "mine").iterdir())


def test_a_place_that_can_be_written_stays_as_it_was(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "x.png")
    (tmp_path / "file").write_text("")
    for wrong in (tmp_path, tmp_path / "file" / "x.png"):
        with pytest.raises(UserError):
            check_writable(wrong)
    with pytest.raises(MachineError):
        check_writable(Path("/proc/x.png"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_lock_where_no_file_can_be_made_is_told() -> None:
    with pytest.raises(OSError, match="No such file"), locked(Path("/proc/extrapo.lock")):
        pass
