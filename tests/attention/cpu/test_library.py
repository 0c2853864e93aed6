"""Libraries on disk: made once, by one process, found by all that they are of, and never half of one."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from compilers import through

from extrapo.attention.cpu import library as module
from extrapo.attention.cpu.library import CompileError, compiler, flags, library, processor, shortcoming

ANSWER = 'extern "C" long answer() { return %d; }'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "extrapo" / "compiled"


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked_anew: None) -> Path:
    """A file with a line for each call of the compiler."""
    found = compiler()
    if found is None:
        pytest.skip("no C++ compiler")
    compiler.cache_clear()
    calls = tmp_path / "calls"
    calls.touch()
    through(monkeypatch, tmp_path, f'echo called >> "{calls}"; exec "{found}" "$@"')
    return calls


def calls(told: Path) -> int:
    return len(told.read_text().splitlines())


def test_it_is_compiled_once(folder: Path, told: Path) -> None:
    for _ in range(2):
        assert library(ANSWER % 42).answer() == 42
    assert calls(told) == 1
    (file,) = folder.glob("*.so")
    assert not list(folder.glob("*.part"))
    file.unlink()
    library(ANSWER % 42)
    assert calls(told) == 2


def test_it_is_known_by_all_that_it_is_made_of(folder: Path, told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library(ANSWER % 1)
    library(ANSWER % 2)
    assert calls(told) == 2
    monkeypatch.setattr(module, "FLAGS", (*module.FLAGS, "-DOTHER"))
    library(ANSWER % 1)
    assert calls(told) == 3
    monkeypatch.setattr(module, "processor", lambda: "another processor")
    library(ANSWER % 1)
    assert calls(told) == 4


def test_who_comes_at_the_same_time_waits(folder: Path, told: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: library(ANSWER % 7).answer(), range(8)))
    assert found == [7] * 8
    assert calls(told) == 1


@pytest.mark.slow
def test_processes_share_it(folder: Path, told: Path) -> None:
    code = f"from extrapo.attention.cpu.library import library; print(library({ANSWER % 5!r}).answer())"
    started = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate(timeout=120)[0].strip() for process in started] == ["5"] * 3
    assert calls(told) == 1


def test_a_compiler_that_dies_leaves_nothing_to_be_found(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: Path
) -> None:
    """Half a file is written, and the compiler is killed: the next one makes it anew."""
    good = os.environ["CXX"]
    half = tmp_path / "half"
    half.mkdir()
    through(monkeypatch, half, 'while [ "$1" != "-o" ]; do shift; done; echo half > "$2"; kill -9 $$')
    with pytest.raises(CompileError):
        library(ANSWER % 3)
    assert not list(folder.glob("*.so"))
    monkeypatch.setenv("CXX", good)
    compiler.cache_clear()
    assert library(ANSWER % 3).answer() == 3


@pytest.mark.usefixtures("folder", "told")
def test_what_is_wrong_is_said_in_a_line() -> None:
    with pytest.raises(CompileError) as raised:
        library('extern "C" long answer() { return nobody; }')
    assert "nobody" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.usefixtures("folder", "asked_anew")
def test_a_broken_compiler_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    through(monkeypatch, tmp_path, "exit 3")
    with pytest.raises(CompileError, match="compiler failed"):
        library(ANSWER % 3)


@pytest.mark.usefixtures("folder", "asked_anew")
def test_it_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_COMPILE_DISABLE", "1")
    assert compiler() is None
    with pytest.raises(CompileError, match="no C"):
        library(ANSWER % 3)


@pytest.mark.usefixtures("asked_anew")
def test_the_users_own_compiler_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    through(monkeypatch, tmp_path, "exit 3")
    assert compiler() == str(tmp_path / "compiler")
    monkeypatch.setenv("CXX", "there-is-no-such-compiler")
    compiler.cache_clear()
    assert compiler() != "there-is-no-such-compiler"


@pytest.mark.usefixtures("cpp_compiler")
def test_the_folder_may_be_new_and_in_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert isinstance(library(ANSWER % 3), ctypes.CDLL)
    assert len(list((tmp_path / "home" / ".cache" / "extrapo" / "compiled").glob("*.so"))) == 1


def test_the_processor_is_the_same_at_every_look() -> None:
    """Its speed of the moment is left out."""
    first = processor()
    processor.cache_clear()
    assert processor() == first != ""
    assert "MHz" not in first


def test_nothing_is_assumed_that_moves_a_result() -> None:
    forbidden = ("-ffast-math", "-fassociative-math", "-ffinite-math-only", "-Ofast", "-freciprocal-math")
    assert not set(flags()) & set(forbidden)


@pytest.mark.usefixtures("folder")
def test_it_is_tried_once_on_a_machine(told: Path) -> None:
    for _ in range(2):
        assert shortcoming() is None
        shortcoming.cache_clear()
    assert calls(told) == 1


@pytest.mark.usefixtures("folder", "asked_anew")
@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("exit 3", "compiler failed"),
        ("echo 'fatal error: no room' >&2; exit 1", "fatal error: no room"),
        # It says that all went well: what cannot be loaded is no library.
        ('while [ "$1" != "-o" ]; do shift; done; echo half > "$2"', "file too short|invalid ELF header|not a mach-o"),
        ("exit 0", "No such file"),
    ],
)
def test_a_compiler_of_no_use_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, why: str
) -> None:
    through(monkeypatch, tmp_path, script)
    reason = shortcoming()
    assert reason is not None
    assert re.search(why, reason), reason
    assert "\n" not in reason


@pytest.mark.usefixtures("cpp_compiler")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """A temporary one serves, which goes with the process."""
    (tmp_path / "extrapo").write_text("a file where the folder should be")
    code = (
        "from pathlib import Path; from extrapo.attention.cpu import library as l; "
        f"print(l.library({ANSWER % 5!r}).answer(), l.shortcoming(), *Path(l.tempfile.gettempdir()).glob('extrapo-*'))"
    )
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "TMPDIR": str(temporary)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    answer, missing, *folders = done.stdout.split()
    assert (answer, missing, len(folders)) == ("5", "None", 1)
    assert not list(temporary.iterdir())


@pytest.mark.usefixtures("asked_anew", "cpp_compiler")
def test_without_any_folder_nothing_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "not" / "there"))
    assert "No such file" in str(shortcoming())
    with pytest.raises(CompileError, match="No such file"):
        library(ANSWER % 3)
