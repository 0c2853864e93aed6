"""What is known of an encoding without PyTorch is what the encodings say of themselves, then and later."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from extrapo import encodings, known
from extrapo.encodings.core.encoding import encodings as registry
from extrapo.encodings.family import family
from extrapo.kept import keep, kept_text, state_of_package
from extrapo.known import FAMILIES, FILE


@pytest.fixture
def forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Nothing is kept yet; the folder in which it will be."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    forget()
    yield tmp_path / "extrapo"
    forget()


def forget() -> None:
    """As in another process."""
    known._kept.cache_clear()


def test_it_is_what_the_encodings_say(forgotten: Path) -> None:
    for name in ("rope", "k-cable", "rope+k-cable", "randomized-rope"):
        (one,) = known.known(name)
        paper = encodings.paper(name)
        assert (one.name, one.certainty, one.summary) == (name, paper.certainty, paper.summary)
        assert one.source == (f"{paper.source}, {paper.year}" if paper.year else paper.source)
        assert one.family == family(name) in FAMILIES
    pattern = known.known("rope+window:3,nope:1,nope")
    assert [one.name for one in pattern] == ["rope+window", "nope"]


def test_it_is_asked_once_and_then_kept(forgotten: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = {name: known.known(name) for name in ("rope", "rope:3,nope:1")}
    forget()
    monkeypatch.setattr(known, "_asked", lambda name: pytest.fail(f"{name} was asked for again"))
    assert {name: known.known(name) for name in first} == first


@pytest.mark.parametrize(
    "name",
    ["my own", "", "rope:0", "nothing+rope", "k-cable: last 256", ",", f"rope:{10**12}", f"rope:{'9' * 5000}"],
    ids=lambda name: name[:20],
)
def test_a_stranger_is_told_and_not_kept(forgotten: Path, name: str) -> None:
    assert [one[1:] for one in known.known(name)] == [("not in this catalogue", "-", "-", "own logits")]
    assert not (forgotten / FILE).exists()


def test_an_encoding_of_another_package_is_not_kept(forgotten: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its code may change where no file of this package does."""
    monkeypatch.setattr(encodings.get("fox"), "__module__", "somebody.elses")
    assert known.known("fox")[0].family == "contextual bias"
    assert known.known("rope+fox")[0].name == "rope+fox"
    assert not (forgotten / FILE).exists()


def test_what_is_registered_later_is_known_then(forgotten: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a notebook, in which a class is written, and written anew."""
    assert known.known("latecomer")[0].source == "not in this catalogue"
    monkeypatch.setitem(registry._classes, "latecomer", type("Latecomer", (encodings.get("alibi"),), {}))
    assert known.known("latecomer")[0].family == "static bias"
    assert not (forgotten / FILE).exists()


def test_what_an_older_package_says_is_not_kept_for_a_newer_one(
    forgotten: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files may change while a training goes on."""
    monkeypatch.setattr(known, "state_of_package", lambda: "a newer one")
    known.known("rope")
    assert kept_text(FILE, "a newer one") is None


@pytest.mark.parametrize(
    "damage", ["", "[]", '{"rope": 1}', '{"rope": []}', '{"rope": [["rope"]]}', '{"rope": [["rope","a","b","c","d"]]}']
)
def test_what_is_damaged_is_asked_for_again(forgotten: Path, damage: str) -> None:
    keep(FILE, state_of_package(), damage)
    assert known.known("rope")[0].family == "rotation"
    text = kept_text(FILE, state_of_package())
    assert text is not None
    assert json.loads(text)["rope"][0][-1] == "rotation"


def test_where_nothing_can_be_kept_it_is_known_all_the_same(forgotten: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    assert known.known("alibi")[0].family == "static bias"


@pytest.mark.slow
def test_the_second_process_loads_no_pytorch(forgotten: Path) -> None:
    code = "import sys; from extrapo.known import known; print(known('k-cable')[0].family, 'torch' in sys.modules)"
    said = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(2)]
    assert [one.stdout for one in said] == ["contextual bias True\n", "contextual bias False\n"]
