"""Preparation at any size: pieces, processes, limits, kills, and what survives them."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extrapo.data import Corpus, document, encoding, opening, prepare, scan, writer
from extrapo.data.document import Document, cut_at_spaces
from extrapo.data.report import description, distribution, listing, verified
from extrapo.data.sources import jsonl
from extrapo.data.sources.text import in_pieces
from extrapo.data.vocabularies import make_tokenizer
from extrapo.errors import UserError


def lines(folder: Path, count: int = 60, **more: Any) -> str:
    """The spec of JSON lines."""
    path = folder / "lines.jsonl"
    rows = ({"text": f"Line {i}. " + f"It speaks of {i % 7} at length. " * (1 + i % 9), **more} for i in range(count))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"jsonl:{path}"


def content(corpus: Corpus) -> list[bytes]:
    """All files of a corpus but the manifest and the tokenizer."""
    return [path.read_bytes() for path in sorted(corpus.folder.iterdir()) if path.suffix in (".bin", ".documents")]


BPE = make_tokenizer("bpe", 320, ["some words to learn from, and some more words"] * 20)


@given(st.text("ab1 \n.é", max_size=400), st.integers(1, 40))
def test_a_text_in_pieces_has_the_ids_of_the_whole(text: str, size: int) -> None:
    pieces = list(cut_at_spaces([text[i : i + 7] for i in range(0, len(text), 7)], size))
    assert "".join(pieces) == text
    assert [i for piece in pieces for i in BPE.encode(piece)] == BPE.encode(text)


def test_a_long_line_without_spaces_is_searched_once() -> None:
    began = time.process_time()
    assert list(map(len, cut_at_spaces(["x" * 1_000_000] * 20))) == [20_000_000]
    assert time.process_time() - began < 5


def test_a_text_without_spaces_ends_somewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "LONGEST_PIECE", 1000)
    with pytest.raises(ValueError, match="without a space"):
        list(cut_at_spaces(["x" * 100] * 20, size=50))


def test_a_long_document_is_the_same_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "Once upon a time, there was a fox.\r\n" * 3000
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text(text, newline="")
    whole = prepare(f"text:{tmp_path / 'in'}", vocab_size=300, cache=tmp_path / "one")
    for name, value in (("WHOLE", 1000), ("BLOCK", 777)):
        monkeypatch.setattr(f"extrapo.data.sources.reading.{name}", value)
    monkeypatch.setattr("extrapo.data.sources.reading.cut_at_spaces", lambda blocks: cut_at_spaces(blocks, 5000))
    monkeypatch.setattr(encoding, "JOB", 4000)
    pieces = prepare(f"text:{tmp_path / 'in'}", vocab_size=300, cache=tmp_path / "two")
    assert content(pieces) == content(whole)
    assert pieces.tokenizer.decode(pieces.train.tolist()) == text.replace("\r\n", "\n")


def test_a_long_file_is_cut_as_a_short_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\n\n".join(f"Paragraph {i}. " + "word " * (i % 50) for i in range(900))
    (tmp_path / "a.txt").write_text(text)
    monkeypatch.setattr("extrapo.data.sources.text.LONGEST", 400)
    whole = ["".join(one.pieces) for one in in_pieces(tmp_path / "a.txt")]
    monkeypatch.setattr("extrapo.data.sources.text.PER_FILE", 4)
    monkeypatch.setattr("extrapo.data.sources.reading.BLOCK", 333)
    assert ["".join(one.pieces) for one in in_pieces(tmp_path / "a.txt")] == whole
    assert "".join(whole) == text


def test_jobs_do_not_depend_on_where_they_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "JOB", 10)
    stretches = [(n // 7, encoding.Stretch("x" * (n % 6), True, "train")) for n in range(40)]
    whole = list(encoding.jobs(stretches))
    assert [one for job in whole for one in job.stretches] == [one for _, one in stretches]
    through = 0
    for number, job in enumerate(whole[:-1]):
        through += len(job.stretches)
        assert list(encoding.jobs(stretches[through:], job.part, job.done)) == whole[number + 1 :]


def test_a_limit_ends_with_a_document(tmp_path: Path) -> None:
    whole = prepare(lines(tmp_path), tokenizer="byte", cache=tmp_path / "cache")
    for limit in (1, 500, 3000):
        part = prepare(lines(tmp_path), tokenizer="byte", cache=tmp_path / "cache", limit_tokens=limit)
        total = len(part.train) + len(part.validation)
        longest = max(int(np.diff(part.documents(split)).max(initial=0)) for split in ("train", "validation"))
        assert limit <= total < limit + longest
        assert np.array_equal(part.train, whole.train[: len(part.train)])
        assert part.sha256 != whole.sha256


def test_only_what_changed_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(9):
        path = folder / f"{number}.txt"
        path.write_text(f"text {number} " * 9)
        os.utime(path, ns=(10**18, 10**18))
    monkeypatch.setattr(scan, "SETTLED_NS", 0)
    read: list[str] = []
    original = scan.read
    monkeypatch.setattr(scan, "read", lambda part: read.append(part.path.name) or original(part))
    first = prepare(f"text:{folder}", tokenizer="byte", cache=tmp_path / "cache")
    assert len(read) == 9
    read.clear()
    again = prepare(f"text:{folder}", tokenizer="byte", cache=tmp_path / "cache")
    assert (read, again.sha256) == ([], first.sha256)
    # The same size and the same time: the entry in the folder tells.
    (folder / "3.txt").write_text("texT 3 " * 9)
    os.utime(folder / "3.txt", ns=(10**18, 10**18))
    changed = prepare(f"text:{folder}", tokenizer="byte", cache=tmp_path / "cache")
    assert read == ["3.txt"]
    assert changed.sha256 != first.sha256


def test_a_file_that_was_just_written_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one text " * 99)
    first = prepare(f"text:{tmp_path / 'a.txt'}", tokenizer="byte", cache=tmp_path / "cache")
    stat = os.stat(tmp_path / "a.txt")
    (tmp_path / "a.txt").write_text("two text " * 99)
    os.utime(tmp_path / "a.txt", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert prepare(f"text:{tmp_path / 'a.txt'}", tokenizer="byte", cache=tmp_path / "cache").sha256 != first.sha256


def test_a_text_that_changes_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = lines(tmp_path)
    original = scan.scan

    def scan_then_change(*arguments: Any) -> Any:
        found = original(*arguments)
        with Path(spec.removeprefix("jsonl:")).open("a") as file:
            file.write('{"text": "one more"}\n')
        return found

    monkeypatch.setattr("extrapo.data.preparation.scan", scan_then_change)
    with pytest.raises(UserError, match="has changed while it was read"):
        prepare(spec, tokenizer="byte", cache=tmp_path / "cache")


def test_shards_are_read_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = lines(tmp_path)
    one = prepare(spec, tokenizer="byte", cache=tmp_path / "one")
    monkeypatch.setattr(encoding, "JOB", 500)
    monkeypatch.setattr(writer, "SHARD_TOKENS", 1500)
    many = prepare(spec, tokenizer="byte", cache=tmp_path / "many")
    assert len(many.manifest["splits"]["train"]["shards"]) > 3
    assert np.array_equal(many.train[:], one.train)
    assert np.array_equal(many.train_documents, one.train_documents)
    for start, stop in ((0, 5), (1490, 4000), (len(one.train) - 3, len(one.train) + 9), (7, 7)):
        assert np.array_equal(many.train[start:stop], one.train[start:stop])
    assert [many.train[i] for i in (0, 1600, -1)] == [one.train[i] for i in (0, 1600, -1)]


def test_documents_have_borders(tmp_path: Path) -> None:
    corpus = prepare(lines(tmp_path), tokenizer="byte", cache=tmp_path / "cache")
    for split, ids in (("train", corpus.train), ("validation", corpus.validation)):
        borders = corpus.documents(split)
        assert borders[-1] == len(ids)
        assert np.array_equal(borders[:-1], np.flatnonzero(ids == corpus.tokenizer.separator))
    assert np.array_equal(corpus.validation_documents, corpus.documents("validation"))


@pytest.mark.parametrize("tokenizer", ["byte", "bpe"])
def test_annotations_become_tokens(tmp_path: Path, tokenizer: str) -> None:
    path = tmp_path / "stories.jsonl"
    with path.open("w") as file:
        for number in range(40):
            text = f"Chapter {number}. Zoë hid the {'old ' * number}ring in the café. Where is it? In the café, it is."
            start, since = text.rindex("café"), text.index("café")
            notes = [{"start": start, "end": start + 4, "since": since, "answer": "café", "number": number}]
            file.write(json.dumps({"text": text, "annotations": notes}, ensure_ascii=False) + "\n")
    corpus = prepare(f"jsonl:{path}", tokenizer=tokenizer, vocab_size=290, cache=tmp_path / "cache")
    seen = []
    for split, ids in (("train", corpus.train), ("validation", corpus.validation)):
        notes = list(corpus.annotations(split))
        assert len(notes) == corpus.manifest["splits"][split]["annotations"] == len(corpus.documents(split)) - 1
        for note in notes:
            spelled = corpus.tokenizer.decode(ids[note["token"] : note["token"] + note["tokens"]].tolist())
            assert spelled.strip() == note["answer"] == "café"
            before = note["token"] - note["distance"]
            assert corpus.tokenizer.decode(ids[before : before + note["tokens"]].tolist()).strip() == "café"
        seen += [note["number"] for note in notes]
    assert sorted(seen) == list(range(40))


def test_a_corpus_by_name_and_what_is_known_of_it(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    made = prepare(lines(tmp_path), tokenizer="byte", cache=cache, output="mine")
    again = prepare("mine", cache=cache)
    assert np.array_equal(again.train, made.train)
    assert again.folder == made.folder
    there = prepare(lines(tmp_path), tokenizer="byte", cache=cache, output=f"{tmp_path}/out")
    assert there.folder == tmp_path / "out"
    assert np.array_equal(prepare(f"{tmp_path}/out", cache=cache).validation, made.validation)
    assert [row["name"] for row in listing(cache)] == ["mine"]
    assert [row["fault"] for row in verified(None, cache)] == [None]
    found = description(again, "mine")
    assert sum(row["documents"] for row in found["lengths"]) == found["documents"] == 60
    assert found["excerpt"].startswith("Line ")
    assert not list(tmp_path.glob("**/*unfinished*/*"))


@given(st.lists(st.integers(1, 5000), max_size=40))
def test_the_distribution_counts_every_document(lengths: list[int]) -> None:
    rows = distribution(np.array(lengths, np.int64))
    assert [row.documents for row in rows] == [sum(row.low <= n < row.high for n in lengths) for row in rows]
    assert sum(row.documents for row in rows) == len(lengths)


def test_half_a_million_lines_are_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source is walked, never listed: no more documents are alive than a job and a block hold."""
    alive = peak = 0

    class Counted(Document):
        def __post_init__(self) -> None:
            nonlocal alive, peak
            alive += 1
            peak = max(peak, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    monkeypatch.setattr(jsonl, "row_document", lambda row, column, where: Counted((row[column],)))
    prepare(lines(tmp_path, 2000), tokenizer="byte", cache=tmp_path / "cache")
    assert peak < 5


PREPARE = (
    "import sys; from extrapo.data import prepare, encoding, writer\n"
    "encoding.JOB, writer.SHARD_TOKENS = 2000, 20_000\n"
    "prepare(sys.argv[1], tokenizer='byte', cache=sys.argv[2], workers=int(sys.argv[3]))"
)


def killed_at_random(folder: Path, spec: str, kills: int, workers: int, seed: int) -> tuple[int, Corpus]:
    """Kill a preparation until it is through; how often it died with work behind it, and what came of it."""
    chance, halfway, deaths = random.Random(seed), 0, 0
    children: list[psutil.Process] = []
    script = folder / "prepare.py"
    script.write_text(PREPARE)
    while True:
        process = subprocess.Popen([sys.executable, str(script), spec, str(folder / "cache"), str(workers)])
        if deaths < kills:
            journal = folder / "cache" / "unfinished"
            began, size = time.monotonic(), chance.randrange(1, 40) * 400
            while process.poll() is None and time.monotonic() - began < 60:
                now = sum(path.stat().st_size for path in journal.glob("*/journal.jsonl"))
                if now > size * (deaths + 1) / kills:
                    time.sleep(chance.random() * 0.01)
                    break
                time.sleep(0.0005)
            with suppress(psutil.NoSuchProcess):
                children = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGKILL)
            deaths += 1
            assert not psutil.wait_procs(children, timeout=20)[1], "they outlive their parent"
        if process.wait() == 0:
            return halfway, prepare(spec, tokenizer="byte", cache=folder / "cache")
        halfway += any(journal.glob("*/journal.jsonl"))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_kill_loses_and_repeats_nothing(tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = lines(tmp_path, 1500)
    halfway, corpus = killed_at_random(tmp_path, spec, kills=3, workers=workers, seed=workers)
    monkeypatch.setattr(encoding, "JOB", 2000)
    monkeypatch.setattr(writer, "SHARD_TOKENS", 20_000)
    whole = prepare(spec, tokenizer="byte", cache=tmp_path / "whole")
    assert halfway
    assert content(corpus) == content(whole)
    assert corpus.manifest == whole.manifest


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_a_hundred_kills_lose_and_repeat_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "JOB", 2000)
    monkeypatch.setattr(writer, "SHARD_TOKENS", 20_000)
    spec, halfway = lines(tmp_path, 3000), 0
    whole = prepare(spec, tokenizer="byte", cache=tmp_path / "whole")
    for turn in range(20):
        folder = tmp_path / str(turn)
        folder.mkdir()
        count, corpus = killed_at_random(folder, spec, kills=5, workers=1 + turn % 2, seed=turn)
        halfway += count
        assert content(corpus) == content(whole)
        assert corpus.manifest == whole.manifest
    assert halfway > 30


@pytest.mark.parametrize("tokenizer", ["byte", "bpe"])
def test_workers_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: str) -> None:
    monkeypatch.setattr(encoding, "JOB", 2000)
    monkeypatch.setattr(opening, "cores", lambda: 4)
    spec = lines(tmp_path, 600)
    one, four = (
        prepare(spec, tokenizer=tokenizer, vocab_size=400, cache=tmp_path / f"cache{workers}", workers=workers)
        for workers in (1, 4)
    )
    assert content(one) == content(four)
