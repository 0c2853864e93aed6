"""Sources: which text is read, how it is split, and what is refused."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from documents import example
from extrapo.data.scan import ROW
from extrapo.data.sources import SOURCES, catalogue
from extrapo.data.sources.stdlib import Stdlib
from extrapo.data.sources.text import cut
from extrapo.data.split import held_out
from extrapo.errors import MachineError, UserError
from texts import shared, splits

PARAGRAPHS = "\n\n".join(f"Paragraph {i}: " + f"word{i} " * 40 for i in range(60))


@pytest.fixture
def wikitext(tmp_path: Path) -> Path:
    folder = tmp_path / "wikitext-2"
    folder.mkdir()
    article = " \n = {} = \n \n Running text . \n \n = = Section = = \n \n x = 1 . \n"
    (folder / "train.txt").write_text(article.format("Alpha") + article.format("Beta") + article.format("Gamma"))
    (folder / "valid.txt").write_text(article.format("Delta"))
    return folder


def test_stdlib_is_real_source_and_none_of_the_machine() -> None:
    text = splits("stdlib")
    everything = "".join(text.train + text.validation)
    assert any(document.startswith('r"""HTTP/1.1 client library') for document in text.train + text.validation)
    assert len(everything) > 6_000_000
    assert sysconfig.get_paths()["stdlib"] not in everything
    share = sum(map(len, text.validation)) / len(everything)
    assert Stdlib.share <= share <= Stdlib.share + 0.03
    assert splits("stdlib") == text


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
        digests.append(splits("stdlib").sha256)
    assert digests[0] == digests[1]


def test_a_python_without_source_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path / "none")})
    with pytest.raises(MachineError, match="cannot read"):
        splits("stdlib")
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="text:PATH"):
        splits("stdlib")


def test_a_file_is_cut_into_documents(tmp_path: Path) -> None:
    path = tmp_path / "story.txt"
    path.write_text(PARAGRAPHS)
    text = splits(f"text:{path}")
    assert len(text.validation) >= 1
    assert len(text.train) > 20
    assert all(document in PARAGRAPHS for document in text.train + text.validation)
    assert sum(map(len, text.train + text.validation)) == len(PARAGRAPHS)


def test_a_folder_has_a_document_per_file(tmp_path: Path) -> None:
    for name in ("b.txt", "a.md", "deep/c.py", "deep/d.PNG", ".hidden/e.txt", "deep/.f.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"text of {name}")
    text = splits(f"text:{tmp_path}")
    assert sorted(text.train + text.validation) == ["text of a.md", "text of b.txt", "text of deep/c.py"]
    assert len(text.validation) == 1


def test_equal_documents_stay_together(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number:02d}.txt").write_text(f"text {number % 5}")
    text = splits(f"text:{tmp_path}")
    assert len(text.train + text.validation) == 40
    assert len(text.validation) == 8
    assert not set(text.train) & set(text.validation)


def test_copies_alone_have_no_validation_split(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the same")
    (tmp_path / "b.txt").write_text("the same")
    assert splits(f"text:{tmp_path}")[:2] == (("the same", "the same"), ())


def test_one_document_has_no_validation_split(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\ufeffalone\r\n", newline="")
    text = splits(f"text:{tmp_path / 'a.txt'}")
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
        splits(spec)
    assert "\n" not in str(error.value)


def test_wikitext_is_cut_at_titles(wikitext: Path) -> None:
    text = splits(f"wikitext-2:{wikitext}")
    assert [document.split("=")[1].strip() for document in text.train] == ["Alpha", "Beta", "Gamma"]
    assert all("Section" in document for document in text.train)
    assert len(text.validation) == 1


def test_wikitext_is_found_by_environment_or_here(wikitext: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (wikitext / "train.txt").rename(wikitext / "wiki.train.tokens")
    (wikitext / "valid.txt").rename(wikitext / "wiki.valid.raw")
    named = splits(f"wikitext-2:{wikitext}")
    monkeypatch.setenv("EXTRAPO_DATA", str(wikitext.parent))
    assert splits("wikitext-2") == named
    monkeypatch.delenv("EXTRAPO_DATA")
    wikitext.parent.joinpath("data").mkdir()
    wikitext.rename(wikitext.parent / "data" / "wikitext-2")
    monkeypatch.chdir(wikitext.parent)
    assert splits("wikitext-2") == named


def test_wikitext_without_a_split_says_where_it_looked(wikitext: Path) -> None:
    (wikitext / "valid.txt").unlink()
    with pytest.raises(UserError, match=r"no valid\.txt.*" + wikitext.name):
        splits(f"wikitext-2:{wikitext}")


def test_the_real_wikitext_has_its_articles() -> None:
    text = splits(f"wikitext-2:{shared('wikitext-2')}")
    assert len(text.train) == 600
    assert len(text.validation) == 60


def test_an_unreadable_file_is_the_machines_fault(tmp_path: Path) -> None:
    loop = tmp_path / "loop.txt"
    loop.symlink_to(loop)
    with pytest.raises(MachineError, match="cannot read"):
        splits(f"text:{tmp_path}")


def test_catalogue_names_every_source() -> None:
    rows = catalogue()
    assert {"stdlib", "text", "jsonl", "parquet", "hf", "wikitext-2", "tinystories", "stories"} <= {
        row["name"] for row in rows
    }
    assert all(row["summary"] for row in rows)


@pytest.mark.slow
def test_listing_needs_no_torch() -> None:
    code = "import sys, extrapo.data as d; d.catalogue(); assert not {'torch', 'tokenizers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@given(st.text(alphabet="ab \n", max_size=3000))
def test_pieces_join_to_the_text(text: str) -> None:
    pieces = cut(text)
    assert "".join(pieces) == text
    assert all(len(piece) <= 256 for piece in pieces)
    assert all(len(piece) > 128 for piece in pieces[:-1])


def held(documents: list[tuple[str, str]], share: float) -> list[bool]:
    """Which of these (key, text) documents are held out."""
    rows = np.array([(sum(key.encode()) * 2**40 + len(key), text.encode(), len(text)) for key, text in documents], ROW)
    return held_out(rows["key"], rows["text"], rows["characters"], share).tolist()


DOCUMENTS = st.lists(st.tuples(st.text("abc", max_size=3), st.text("xy", min_size=1, max_size=4)), max_size=12)


@given(DOCUMENTS, st.floats(0.01, 0.9))
def test_no_text_is_on_both_sides(documents: list[tuple[str, str]], share: float) -> None:
    chosen = held(documents, share)
    train = [text for (_, text), out in zip(documents, chosen, strict=True) if not out]
    validation = [text for (_, text), out in zip(documents, chosen, strict=True) if out]
    assert not set(train) & set(validation)
    assert bool(train) == bool(documents)


@given(st.sets(st.text("abcdef", min_size=1, max_size=5), min_size=2, max_size=30), st.data())
def test_the_split_does_not_depend_on_the_order(keys: set[str], data: st.DataObject) -> None:
    documents = [(key, key) for key in sorted(keys)]
    shuffled = data.draw(st.permutations(documents))
    one, other = (
        {key for (key, _), out in zip(order, held(order, 0.2), strict=True) if out} for order in (documents, shuffled)
    )
    assert one == other


def test_borders_are_part_of_the_hash(tmp_path: Path) -> None:
    def digest(*files: str) -> str:
        for file in tmp_path.iterdir():
            file.unlink()
        for number, text in enumerate(files):
            (tmp_path / f"{number}.txt").write_text(text)
        return splits(f"text:{tmp_path}").sha256

    assert len({digest("ab", "c", "d"), digest("a", "bc", "d"), digest("abc", "d"), digest("ab", "cd")}) == 4


def test_the_guides_example_is_a_kind_of_corpus(tmp_path: Path) -> None:
    before = dict(SOURCES._classes)
    try:
        exec(compile(example("fables.py"), "fables.py", "exec"), {})
        (tmp_path / "all.txt").write_text("\n***\n".join(f"Fable {i}." for i in range(50)))
        found = splits(f"fables:{tmp_path / 'all.txt'}")
        assert sorted(found.train + found.validation) == sorted(f"Fable {i}." for i in range(50))
    finally:
        SOURCES._classes = before
