"""The registry's manners, and an encoding and a kernel that another installed package brings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from extrapo.errors import UserError
from extrapo.registry import Registry


def install(folder: Path, name: str, source: str, entry_points: str) -> None:
    """What a package manager leaves in a folder of the import path: a package, and the metadata of it."""
    package = folder / name
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(dedent(source))
    metadata = folder / f"{name}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(dedent(entry_points))


class Thing:
    """Something to register."""


def test_a_name_belongs_to_one_class() -> None:
    things: Registry[Thing] = Registry("thing", "extrapo.tests.none")
    assert things.register("one")(Thing) is Thing
    things.register("one")(Thing)

    class Other(Thing):
        """Another."""

    with pytest.raises(ValueError, match="thing 'one' is registered twice"):
        things.register("one")(Other)
    assert things.get("one") is Thing
    things.register("another")(Other)
    assert things.names() == ["another", "one"]


def test_a_name_that_is_not_there() -> None:
    things: Registry[Thing] = Registry("thing", "extrapo.tests.none")
    things.register("cauchy-log")(Thing)
    with pytest.raises(UserError, match="unknown thing 'cauchy-lag'; did you mean 'cauchy-log'"):
        things.get("cauchy-lag")
    with pytest.raises(UserError, match="unknown thing 'zzz'; known: cauchy-log"):
        things.get("zzz")


def test_an_entry_point_names_a_class_or_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(
        tmp_path,
        "bringer",
        """
        from test_registry_shared import things

        class ByClass: pass

        @things.register("by-module")
        class ByModule: pass
        """,
        """
        [extrapo.tests.bringer]
        by-class = bringer:ByClass
        whatever = bringer
        """,
    )
    shared = tmp_path / "test_registry_shared.py"
    shared.write_text("from extrapo.registry import Registry\nthings = Registry('thing', 'extrapo.tests.bringer')\n")
    monkeypatch.syspath_prepend(tmp_path)
    from test_registry_shared import things  # type: ignore[import-not-found]

    assert things.get("by-module").__name__ == "ByModule"
    assert things.names() == ["by-class", "by-module"]


def test_an_entry_point_that_does_not_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(
        tmp_path,
        "broken_bringer",
        "import a_module_that_is_not_installed",
        """
        [extrapo.tests.broken]
        theirs = broken_bringer:Theirs
        """,
    )
    monkeypatch.syspath_prepend(tmp_path)
    things: Registry[Thing] = Registry("thing", "extrapo.tests.broken")
    install(tmp_path, "good_bringer", "class Good: pass", "[extrapo.tests.broken]\nx-good = good_bringer:Good\n")
    things.register("taken")(Thing)
    install(tmp_path, "taker", "class Other: pass", "[extrapo.tests.broken]\ntaken = taker:Other\n")
    with pytest.warns(UserWarning, match="is broken"):
        # What is broken takes nothing else down with it.
        assert things.names() == ["taken", "x-good"]
    with pytest.raises(UserError, match="'theirs' of 'broken_bringer:Theirs' is broken: No module") as refused:
        things.get("theirs")
    assert "\n" not in str(refused.value)


ENCODING_AND_KERNEL = '''
"""A package of somebody else's: a kernel, and an encoding that uses it."""

import torch

from extrapo import encodings, kernels
from extrapo.encodings import Encoding, Paper, distance_bias, index_positions


class Tent(kernels.Kernel):
    """phi(z) = -z / (1 + z), a bias that levels off."""

    paper = "theirs"
    summary = "-z / (1 + z)"

    @staticmethod
    def phi(z, *values):
        return -z / (1 + z)


class Theirs(Encoding):
    """A learned unit of distance per head, under the tent kernel."""

    paper = Paper("theirs", "index", "-", "tent", "their encoding")

    def __init__(self, heads, head_dim, dim):
        super().__init__(heads, head_dim, dim)
        self.unit = torch.nn.Parameter(torch.linspace(0.5, 2.0, heads))
        self.kernel = kernels.create("tent", heads)

    def bias(self, x, past=None, context=None):
        positions = index_positions(x, past, context)
        gate = self.unit.view(1, -1, 1).expand(1, -1, x.size(1))
        return distance_bias(self.kernel, positions, past, x=x, heads=self.heads, gate=gate)
'''

THEIR_TESTS = """
import torch

from extrapo import GPT, GPTConfig, catalogue, encodings, kernels
from extrapo.testing import EncodingContract


def test_listed():
    assert "theirs" in encodings.names()
    assert "tent" in kernels.names()
    row = next(row for row in catalogue.encodings() if row["name"] == "theirs")
    assert row["kernel"] == "tent" and row["parameters"] == 8


def test_trains():
    model = GPT(GPTConfig(encoding="theirs", layers=1, heads=2, dim=8, vocab_size=11))
    model(torch.arange(6).unsqueeze(0)).logsumexp(-1).sum().backward()
    assert model.blocks[0].attention.encoding.unit.grad.abs().min() > 0


def test_the_kernel_serves_ours():
    layer = encodings.create("cable", heads=2, head_dim=4, dim=8, kernel="tent")
    assert layer.bias(torch.randn(1, 5, 8)).dense()[0, 0].tril().min() > -1


class TestTheirs(EncodingContract):
    encoding = "theirs"


class TestComposed(EncodingContract):
    encoding = "rope+theirs"
"""


def test_another_package_brings_an_encoding_and_a_kernel(tmp_path: Path) -> None:
    """In a process of its own, whose import path holds their package as an installation would leave it."""
    site, checks = tmp_path / "site", tmp_path / "checks"
    install(
        site,
        "their_package",
        ENCODING_AND_KERNEL,
        """
        [extrapo.encodings]
        theirs = their_package:Theirs

        [extrapo.kernels]
        tent = their_package:Tent
        """,
    )
    checks.mkdir()
    (checks / "test_theirs.py").write_text(THEIR_TESTS)
    path = os.pathsep.join([str(site), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]).rstrip(os.pathsep)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "--rootdir",
            str(checks),
            str(checks),
        ],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        cwd=checks,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout
    assert "33 passed" in done.stdout
    assert "skipped" not in done.stdout
