"""Without attention/cpu and attention/gpu, and their lines in the list of back ends, all else works: on a copy."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import extrapo

WINGS = ("cpu", "gpu")

#: Ends every line outside of the folders that knows of one.
MARKER = "# the wing"

TESTS = Path(__file__).parents[1]

#: One of each kind of bias: none, a number of each key, columns, a formula, own logits, a window.
KINDS = ("nope", "alibi", "cable-weighted", "k-cable", "cope", "window")

#: The tests must find the copy where they look for the package.
RUN = """
import sys
from pathlib import Path
import extrapo, pytest
assert Path(extrapo.__file__).is_relative_to(sys.argv[1]), extrapo.__file__
sys.exit(pytest.main(sys.argv[2:]))
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder with the package in it, but for the wings."""
    package = tmp_path / "extrapo"
    shutil.copytree(Path(extrapo.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    for wing in WINGS:
        shutil.rmtree(package / "attention" / wing)
    marked = []
    for file in package.rglob("*.py"):
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        if kept := [line for line in lines if not line.rstrip().endswith(MARKER)]:
            marked += lines[len(kept) :]
            file.write_text("".join(kept), encoding="utf-8")
    assert marked, f"no line ends with {MARKER}"
    return tmp_path


def assert_passes(copy: Path, *arguments: str) -> None:
    """The tests that these arguments name pass on the copy."""
    command = [sys.executable, "-c", RUN, str(copy), "-q", "-p", "no:cacheprovider", *arguments]
    environment = os.environ | {"PYTHONPATH": str(copy)}
    done = subprocess.run(command, cwd=TESTS.parent, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert " passed" in done.stdout


#: Not what is the wings' own, nor this file.
OWN = (*(TESTS / "attention" / wing for wing in WINGS), TESTS / "attention" / "recorded", Path(__file__))
WITHOUT = tuple(part for path in OWN for part in ("--ignore", str(path)))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_others_serve(copy: Path) -> None:
    """The tests of attention, and the contract, of these schemes."""
    contract = copy / "test_contract.py"
    classes = (f"class Test{number}(EncodingContract):\n    encoding = {name!r}" for number, name in enumerate(KINDS))
    contract.write_text("\n\n\n".join(("from extrapo.testing import EncodingContract", *classes)))
    names = " or ".join([*KINDS, contract.stem])
    assert_passes(copy, "-m", "not slow", "-k", names, str(TESTS / "attention"), *WITHOUT, str(contract))


@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_all_other_tests_pass(copy: Path) -> None:
    """Every test that `make test` runs, but those of the wing."""
    assert_passes(copy, "-m", "not slow and not chaos", "-n", "2", "--dist", "worksteal", str(TESTS), *WITHOUT)
