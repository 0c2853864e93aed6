"""JSON lines, parquet tables and data sets: the same documents, whatever they lie in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from extrapo.data import prepare
from extrapo.data.sources.huggingface import Pinned
from extrapo.data.sources.named import split_at
from extrapo.data.sources.wikitext import articles
from extrapo.errors import UserError
from texts import shared, splits

ROWS = [{"story": f"Story {i}: " + "and so on " * (i % 9), "id": i} for i in range(120)]
TEXTS = sorted(row["story"] for row in ROWS)

NEEDED = "needs pip install 'extrapo[data]'"


def jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n\n" for row in rows))


def parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    arrow = pytest.importorskip("pyarrow", reason=NEEDED)
    pytest.importorskip("pyarrow.parquet", reason=NEEDED).write_table(
        arrow.Table.from_pylist(rows), path, row_group_size=50
    )


def saved(path: Path, rows: list[dict[str, Any]]) -> None:
    pytest.importorskip("datasets", reason=NEEDED).Dataset.from_list(rows).save_to_disk(str(path.with_suffix("")))


FORMATS = [
    ("jsonl", jsonl, "jsonl"),
    ("parquet", parquet, "parquet"),
    ("hf", jsonl, "jsonl"),
    ("hf", parquet, "parquet"),
]


@pytest.mark.parametrize(("kind", "write", "suffix"), FORMATS)
def test_the_documents_of_a_table(tmp_path: Path, kind: str, write: Any, suffix: str) -> None:
    if kind == "hf":
        pytest.importorskip("datasets", reason=NEEDED)
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / f"data.{suffix}", ROWS)
    found = splits(f"{kind}:{tmp_path / 'in'}?column=story")
    assert sorted(found.train + found.validation) == TEXTS
    assert not set(found.train) & set(found.validation)


@pytest.mark.parametrize(("kind", "write", "suffix"), FORMATS)
def test_official_splits_are_kept_and_tests_left_out(tmp_path: Path, kind: str, write: Any, suffix: str) -> None:
    if kind == "hf":
        pytest.importorskip("datasets", reason=NEEDED)
    for name, rows in (("train", ROWS[:80]), ("validation", ROWS[80:100]), ("test", ROWS[100:])):
        write(tmp_path / f"{name}-00000-of-00001.{suffix}", rows)
    found = splits(f"{kind}:{tmp_path}?column=story")
    assert sorted(found.train) == sorted(row["story"] for row in ROWS[:80])
    assert sorted(found.validation) == sorted(row["story"] for row in ROWS[80:100])


def test_a_saved_data_set(tmp_path: Path) -> None:
    saved(tmp_path / "mine.x", ROWS)
    one = prepare(f"hf:{tmp_path / 'mine'}?column=story", tokenizer="byte", cache=tmp_path / "cache")
    splits_of = one.manifest["splits"]
    assert splits_of["train"]["documents"] + splits_of["validation"]["documents"] == len(ROWS)
    with pytest.raises(UserError, match=r"unknown column 'text'; .*story"):
        prepare(f"hf:{tmp_path / 'mine'}", tokenizer="byte", cache=tmp_path / "cache")
    with pytest.raises(UserError, match=r"unknown split 'none'; .*train"):
        prepare(f"hf:{tmp_path / 'mine'}?column=story&split=none", tokenizer="byte", cache=tmp_path / "cache")


def test_a_data_set_that_is_none(tmp_path: Path) -> None:
    pytest.importorskip("datasets", reason=NEEDED)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="cannot be read"):
        prepare(f"hf:{tmp_path / 'empty'}", tokenizer="byte", cache=tmp_path / "cache")


def test_rows_without_text_are_no_documents(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", [{"text": "one"}, {"text": None}, {"text": " "}, {"text": "two"}])
    found = splits(f"jsonl:{tmp_path}")
    assert sorted(found.train + found.validation) == ["one", "two"]


def test_a_data_set_is_pinned() -> None:
    one = Pinned("owner/name", "c0ffee", "small")
    assert one.identity != Pinned("owner/name", "decade", "small").identity
    assert one.origin == {"dataset": "owner/name", "revision": "c0ffee", "config": "small"}


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_texts_that_come_in_blocks(size: int) -> None:
    text = " \n = A = \n \n first . \n \n = = Part = = \n \n more . \n \n = B = \n \n second . \n"
    blocks = [text[i : i + size] for i in range(0, len(text), size)]
    found = [one for one in articles(blocks) if one.strip()]
    assert [one.split("=")[1].strip() for one in found] == ["A", "B"]
    assert "".join(articles(blocks)) == text
    assert list(split_at(blocks, "= \n")) == text.split("= \n")


def test_the_real_tiny_stories(tmp_path: Path) -> None:
    (tmp_path / "stories.txt").write_bytes((shared("tinystories") / "tinystories_sample_eot.txt").read_bytes())
    found = splits(f"tinystories:{tmp_path}")
    documents = found.train + found.validation
    assert len(documents) == 5
    assert all("<|endoftext|>" not in one and one == one.strip("\n") for one in documents)


def test_whole_books() -> None:
    found = splits(f"books:{shared('books')}")
    assert len(found.train + found.validation) == 10
    assert min(map(len, found.train + found.validation)) > 800_000
