"""The registry's manners, and an encoding and a kernel that another installed package brings."""

from __future__ import annotations

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


@pytest.mark.parametrize(
    ("name", "body", "names", "says"),
    [
        ("ends_it", "raise SystemExit(3)", "ends_it", r"it ends the program \(3\)"),
        ("no_class", "Theirs = 3", "no_class:Theirs", "a class or a module is expected, not a int"),
        ("two_lines", "raise RuntimeError('one\\ntwo')", "two_lines", "one two"),
    ],
)
def test_an_entry_point_that_misbehaves(
    name: str, body: str, names: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, name, body, f"[extrapo.tests.{name}]\ntheirs = {names}\n")
    monkeypatch.syspath_prepend(tmp_path)
    things: Registry[Thing] = Registry("thing", f"extrapo.tests.{name}")
    with pytest.warns(UserWarning, match="is broken"), pytest.raises(UserError, match=says):
        things.get("theirs")


def test_what_an_entry_point_prints_is_not_for_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(
        tmp_path, "talker", "print('hello')\nclass Theirs: pass", "[extrapo.tests.talker]\ntheirs = talker:Theirs\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    things: Registry[Thing] = Registry("thing", "extrapo.tests.talker")
    assert things.names() == ["theirs"]
    assert capsys.readouterr() == ("", "hello\n")
