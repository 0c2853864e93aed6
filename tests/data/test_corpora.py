"""Corpora: which text is read, how it is split, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extrapo.data import corpora
from extrapo.errors import MachineError, UserError

PARAGRAPHS = "\n\n".join(f"Paragraph {i}: " + f"word{i} " * 40 for i in range(60))


def shared(name: str) -> Path:
    """A folder of real text beside the project, where there is one."""
    home = os.environ.get("EXTRAPO_SHARED_DATA") or Path(__file__).parents[3] / "shared" / "data"
    path = Path(home) / name
    if not path.exists():
        pytest.skip(f"no {name} in {home}; EXTRAPO_SHARED_DATA names the folder of the real text")
    return path


@pytest.fixture
def wikitext(tmp_path: Path) -> Path:
    folder = tmp_path / "wikitext-2"
    folder.mkdir()
    article = " \n = {} = \n \n Running text . \n \n = = Section = = \n \n x = 1 . \n"
    (folder / "train.txt").write_text(article.format("Alpha") + article.format("Beta") + article.format("Gamma"))
    (folder / "valid.txt").write_text(article.format("Delta"))
    return folder


def test_stdlib_is_real_source_and_none_of_the_machine() -> None:
    text = corpora.read_documents("stdlib")
    everything = "".join(text.train + text.validation)
    assert any(document.startswith('r"""HTTP/1.1 client library') for document in text.train + text.validation)
    assert len(everything) > 6_000_000
    assert sysconfig.get_paths()["stdlib"] not in everything
    share = sum(map(len, text.validation)) / len(everything)
    assert corpora.STDLIB_SHARE <= share <= corpora.STDLIB_SHARE + 0.03
    assert corpora.read_documents("stdlib") == text


def test_stdlib_does_not_depend_on_where_python_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = []
    for place in ("usr/lib/python3", "home/me/python"):
        root = tmp_path / place
        for index in range(12):
            (root / f"package{index % 3}").mkdir(parents=True, exist_ok=True)
            (root / f"package{index % 3}" / f"module{index}.py").write_text(f"value = {index}\n" * 9)
        (root / "site-packages").mkdir()
        (root / "site-packages" / "other.py").write_text(f"where = {place!r}")
        (root / "_sysconfigdata__linux_.py").write_text(f"prefix = {place!r}")
        (root / "latin.py").write_bytes(b"# \xe9")
        monkeypatch.setattr(sysconfig, "get_paths", lambda root=root: {"stdlib": str(root)})
        digests.append(corpora.read_documents("stdlib").sha256)
    assert digests[0] == digests[1]


def test_a_python_without_source_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path / "none")})
    with pytest.raises(MachineError, match="cannot read"):
        corpora.read_documents("stdlib")
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="text:PATH"):
        corpora.read_documents("stdlib")


def test_a_file_is_cut_into_documents(tmp_path: Path) -> None:
    path = tmp_path / "story.txt"
    path.write_text(PARAGRAPHS)
    text = corpora.read_documents(f"text:{path}")
    assert text.name == "story"
    assert len(text.validation) >= 1
    assert len(text.train) > 20
    assert all(document in PARAGRAPHS for document in text.train + text.validation)
    assert sum(map(len, text.train + text.validation)) == len(PARAGRAPHS)


def test_a_folder_has_a_document_per_file(tmp_path: Path) -> None:
    for name in ("b.txt", "a.md", "deep/c.py", "deep/d.PNG", ".hidden/e.txt", "deep/.f.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"text of {name}")
    text = corpora.read_documents(f"text:{tmp_path}")
    assert sorted(text.train + text.validation) == ["text of a.md", "text of b.txt", "text of deep/c.py"]
    assert len(text.validation) == 1


def test_equal_documents_are_split_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the same")
    (tmp_path / "b.txt").write_text("the same")
    text = corpora.read_documents(f"text:{tmp_path}")
    assert text.train == text.validation == ("the same",)


def test_one_document_has_no_validation_split(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\ufeffalone\r\n", newline="")
    text = corpora.read_documents(f"text:{tmp_path / 'a.txt'}")
    assert text.train == ("alone\n",)
    assert text.validation == ()


@pytest.mark.parametrize(
    ("make", "spec", "message"),
    [
        (None, "text:missing.txt", "there is no file or folder missing.txt"),
        (None, "text", "text:PATH"),
        (None, "stdlib:path", "takes no path"),
        (None, "stdlb", "did you mean 'stdlib'"),
        (b"", "text:file.txt", "holds no text"),
        (b" \n\n ", "text:file.txt", "holds no text"),
        (b"caf\xe9", "text:file.txt", "not UTF-8"),
        (b"\x00\xff", "text:.", "not UTF-8"),
        (None, "text:.", "holds no text: no file ends in"),
        (None, "wikitext-2", "no train.txt"),
    ],
)
def test_mistakes_have_one_line(
    make: bytes | None, spec: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EXTRAPO_DATA", raising=False)
    if make is not None:
        (tmp_path / "file.txt").write_bytes(make)
    with pytest.raises(UserError, match=message) as error:
        corpora.read_documents(spec)
    assert "\n" not in str(error.value)


def test_wikitext_is_cut_at_titles(wikitext: Path) -> None:
    text = corpora.read_documents(f"wikitext-2:{wikitext}")
    assert [document.split("=")[1].strip() for document in text.train] == ["Alpha", "Beta", "Gamma"]
    assert all("Section" in document for document in text.train)
    assert len(text.validation) == 1


def test_wikitext_is_found_by_environment_or_here(wikitext: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (wikitext / "train.txt").rename(wikitext / "wiki.train.tokens")
    (wikitext / "valid.txt").rename(wikitext / "wiki.valid.raw")
    named = corpora.read_documents(f"wikitext-2:{wikitext}")
    monkeypatch.setenv("EXTRAPO_DATA", str(wikitext.parent))
    assert corpora.read_documents("wikitext-2") == named
    monkeypatch.delenv("EXTRAPO_DATA")
    wikitext.parent.joinpath("data").mkdir()
    wikitext.rename(wikitext.parent / "data" / "wikitext-2")
    monkeypatch.chdir(wikitext.parent)
    assert corpora.read_documents("wikitext-2") == named


def test_wikitext_without_a_split_says_where_it_looked(wikitext: Path) -> None:
    (wikitext / "valid.txt").unlink()
    with pytest.raises(UserError, match=r"no valid\.txt.*" + wikitext.name):
        corpora.read_documents(f"wikitext-2:{wikitext}")


def test_the_real_wikitext_has_its_articles() -> None:
    text = corpora.read_documents(f"wikitext-2:{shared('wikitext-2')}")
    assert len(text.train) == 600
    assert len(text.validation) == 60


def test_an_unreadable_file_is_the_machines_fault(tmp_path: Path) -> None:
    loop = tmp_path / "loop.txt"
    loop.symlink_to(loop)
    with pytest.raises(MachineError, match="cannot read"):
        corpora.read_documents(f"text:{tmp_path}")


def test_catalogue_names_every_source() -> None:
    rows = corpora.catalogue()
    assert [row["name"] for row in rows] == ["stdlib", "text", "wikitext-2", "stories"]
    assert all(row["summary"] for row in rows)


def test_listing_needs_no_torch() -> None:
    code = "import sys, extrapo.data as d; d.catalogue(); assert not {'torch', 'tokenizers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@given(st.text(alphabet="ab \n", max_size=3000))
def test_pieces_join_to_the_text(text: str) -> None:
    pieces = corpora.cut(text)
    assert "".join(pieces) == text
    assert all(len(piece) <= 256 for piece in pieces)
    assert all(len(piece) > 128 for piece in pieces[:-1])


@given(
    st.lists(st.tuples(st.text(max_size=9), st.text(max_size=20)), max_size=12),
    st.floats(0.01, 0.9),
)
def test_hold_out_keeps_every_document_once(documents: list[tuple[str, str]], share: float) -> None:
    text = corpora.hold_out("name", documents, share)
    solid = [document for _, document in documents if document.strip()]
    assert sorted(text.train + text.validation) == sorted(solid)
    assert bool(text.validation) == (len(solid) >= 2)
    assert bool(text.train) == bool(solid)


@given(st.sets(st.text(min_size=1, max_size=9), min_size=2, max_size=30), st.data())
def test_hold_out_does_not_depend_on_the_order(keys: set[str], data: st.DataObject) -> None:
    documents = [(key, f"<{key}>" * 5) for key in sorted(keys)]
    shuffled = data.draw(st.permutations(documents))
    one, other = (corpora.hold_out("name", order, 0.2) for order in (documents, shuffled))
    assert set(one.validation) == set(other.validation)


def test_borders_are_part_of_the_hash() -> None:
    assert corpora.Documents("n", ("ab", "c"), ("d",)).sha256 != corpora.Documents("n", ("a", "bc"), ("d",)).sha256
    assert corpora.Documents("n", ("ab", "c"), ("d",)).sha256 != corpora.Documents("n", ("ab",), ("c", "d")).sha256
