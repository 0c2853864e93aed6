"""The shards: what is written is what was read, once, whole, and noticed when damaged."""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from extrapo.data import Corpus, prepare
from extrapo.errors import MachineError, UserError

DOCUMENTS = [f"Document {i}. " + f"It speaks of subject {i % 7} at length. " * 20 for i in range(30)]


@pytest.fixture
def spec(tmp_path: Path) -> str:
    folder = tmp_path / "texts"
    folder.mkdir()
    for index, document in enumerate(DOCUMENTS):
        (folder / f"{index:02d}.txt").write_text(document)
    return f"text:{folder}"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def shard(cache: Path, name: str = "train.bin") -> Path:
    (path,) = cache.glob(f"corpora/*/{name}")
    return path


def corpora(cache: Path) -> int:
    """How many are stored."""
    return len(list(cache.glob("corpora/*/manifest.json")))


def texts(corpus: Corpus, ids: np.ndarray) -> list[str]:
    """The documents that the ids hold."""
    starts = np.flatnonzero(ids == corpus.tokenizer.separator)
    assert starts[0] == 0
    return [corpus.tokenizer.decode(piece.tolist()) for piece in np.split(ids, starts[1:])]


@pytest.mark.parametrize("tokenizer", ["bpe", "byte"])
def test_the_documents_come_back(spec: str, cache: Path, tokenizer: str) -> None:
    corpus = prepare(spec, tokenizer=tokenizer, vocab_size=300, cache=cache)
    train, validation = texts(corpus, corpus.train), texts(corpus, corpus.validation)
    assert sorted(train + validation) == sorted(DOCUMENTS)
    assert len(validation) >= 1
    assert corpus.train.dtype == np.dtype("<u2")
    assert (corpus.name, corpus.spec, corpus.tokenizer.name) == ("texts", spec, tokenizer)


def test_manifest(spec: str, cache: Path) -> None:
    corpus = prepare(spec, vocab_size=300, cache=cache)
    manifest = json.loads(shard(cache, "manifest.json").read_text())
    assert manifest == corpus.manifest
    assert corpora(cache) == 1
    assert manifest["sha256"] == corpus.sha256
    assert manifest["tokenizer"]["sha256"] == corpus.tokenizer.sha256
    train = manifest["splits"]["train"]
    assert train["tokens"] == len(corpus.train)
    assert train["documents"] + manifest["splits"]["validation"]["documents"] == len(DOCUMENTS)
    assert train["text_bytes"] == sum(len(text.encode()) for text in texts(corpus, corpus.train))


def test_the_second_call_only_opens(spec: str, cache: Path) -> None:
    said: list[str] = []
    first = prepare(spec, vocab_size=300, cache=cache, say=said.append)
    assert len(said) == 2
    written = shard(cache).stat().st_mtime_ns
    said.clear()
    second = prepare(spec, vocab_size=300, cache=cache, say=said.append)
    assert said == []
    assert shard(cache).stat().st_mtime_ns == written
    assert isinstance(second.train, np.memmap)
    assert np.array_equal(first.train, second.train)
    assert second.tokenizer.sha256 == first.tokenizer.sha256


def test_another_vocabulary_or_text_is_another_store(spec: str, cache: Path) -> None:
    prepare(spec, vocab_size=300, cache=cache)
    prepare(spec, vocab_size=310, cache=cache)
    assert corpora(cache) == 2
    Path(spec.removeprefix("text:"), "00.txt").write_text("Changed. " * 50)
    changed = prepare(spec, vocab_size=300, cache=cache)
    assert corpora(cache) == 3
    assert any("Changed." in text for ids in (changed.train, changed.validation) for text in texts(changed, ids))


@pytest.mark.parametrize("name", ["train.bin", "validation.bin", "manifest.json"])
@pytest.mark.parametrize("damage", ["cut", "flip", "remove"])
def test_damage_is_noticed_and_mended(spec: str, cache: Path, name: str, damage: str) -> None:
    sound = prepare(spec, vocab_size=300, cache=cache)
    ids = np.array(sound.train), np.array(sound.validation)
    path = shard(cache, name)
    content = bytearray(path.read_bytes())
    path.unlink()
    if damage == "cut":
        path.write_bytes(content[:-3])
    if damage == "flip":
        content[10] ^= 0xFF
        path.write_bytes(content)
    said: list[str] = []
    mended = prepare(spec, vocab_size=300, cache=cache, say=said.append)
    assert len(said) == 1
    assert np.array_equal(mended.train, ids[0])
    assert np.array_equal(mended.validation, ids[1])


def test_a_manifest_that_says_another_hash_of_its_text_is_made_anew(spec: str, cache: Path) -> None:
    """Curves would be told to be of another text."""
    sound = prepare(spec, vocab_size=300, cache=cache)
    path = shard(cache, "manifest.json")
    first = "0" if sound.sha256[0] != "0" else "1"
    path.write_text(path.read_text().replace(sound.sha256, first + sound.sha256[1:]))
    assert prepare(spec, vocab_size=300, cache=cache).sha256 == sound.sha256
    assert json.loads(path.read_text())["sha256"] == sound.sha256


def test_any_damage_to_what_is_remembered_of_a_text_is_mended(spec: str, cache: Path) -> None:
    """Of which it is the hashes of documents, for as long as the files do not change."""
    sound = prepare(spec, vocab_size=300, cache=cache)
    (kept,) = (cache / "scans").glob("*.npz")
    content = kept.read_bytes()
    for at in range(0, len(content), len(content) // 60):
        for damaged in (content[:at], content[:at] + bytes([content[at] ^ 0x11]) + content[at + 1 :]):
            kept.write_bytes(damaged)
            assert prepare(spec, vocab_size=300, cache=cache).sha256 == sound.sha256


@pytest.mark.parametrize("content", [None, "{}", '{"name": "byte"}'], ids=["lost", "broken", "foreign"])
def test_a_lost_or_foreign_tokenizer_is_made_anew(spec: str, cache: Path, content: str | None) -> None:
    sound = prepare(spec, vocab_size=300, cache=cache)
    (path,) = cache.glob("tokenizers/bpe-*.json")
    path.unlink()
    if content is not None:
        path.write_text(content)
    shard(cache, "manifest.json").unlink()
    mended = prepare(spec, vocab_size=300, cache=cache)
    assert mended.tokenizer.sha256 == sound.tokenizer.sha256
    assert sorted(texts(mended, mended.train)) == sorted(texts(sound, sound.train))


def test_a_changed_validation_text_keeps_the_tokenizer(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "train.txt").write_text(" \n = A = \n \n" + DOCUMENTS[0])
    digests = set()
    for text in DOCUMENTS[1:3]:
        (tmp_path / "valid.txt").write_text(text)
        digests.add(prepare(f"wikitext-2:{tmp_path}", vocab_size=300, cache=cache).tokenizer.sha256)
    assert len(digests) == 1
    assert len(list(cache.glob("tokenizers/*"))) == 1
    assert corpora(cache) == 2


def test_a_single_document_leaves_validation_empty(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "note.txt").write_text("A short note.")
    for _ in range(2):
        corpus = prepare(f"text:{tmp_path / 'note.txt'}", tokenizer="byte", cache=cache)
        assert len(corpus.train) == 14
        assert len(corpus.validation) == 0


def test_a_large_vocabulary_takes_four_bytes(spec: str, tmp_path: Path, cache: Path) -> None:
    from tokenizers.pre_tokenizers import ByteLevel

    pieces = [*(f"<{i}>" for i in range(70_000)), *sorted(ByteLevel.alphabet()), "<|endoftext|>"]
    (tmp_path / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    corpus = prepare(spec, tokenizer=f"gpt2:{tmp_path}", cache=cache)
    assert corpus.train.dtype == np.dtype("<u4")
    assert int(corpus.train.max()) == 70_256
    assert sorted(texts(corpus, corpus.train) + texts(corpus, corpus.validation)) == sorted(DOCUMENTS)


@pytest.mark.slow
def test_several_processes_do_the_work_once(spec: str, cache: Path) -> None:
    code = (
        "import sys; from extrapo.data import prepare\n"
        "prepare(sys.argv[1], vocab_size=300, cache=sys.argv[2], say=print)"
    )
    command = [sys.executable, "-c", code, spec, str(cache)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = [process.communicate()[0].splitlines() for process in processes]
    assert all(process.returncode == 0 for process in processes)
    assert sorted(map(len, said)) == [0, 0, 0, 2]


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_leaves_no_half_file(spec: str, cache: Path) -> None:
    code = (
        "import sys, signal; from extrapo.data import prepare; from extrapo.errors import MachineError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "try: prepare(sys.argv[1], tokenizer='byte', cache=sys.argv[2])\n"
        "except MachineError as error: print(error)"
    )
    out = subprocess.run(
        [sys.executable, "-B", "-c", code, spec, str(cache)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert out.stdout.count("\n") == 1
    assert "EXTRAPO_CACHE" in out.stdout
    assert not list(cache.glob("corpora/*"))
    assert len(prepare(spec, tokenizer="byte", cache=cache).train) > 5000


def test_a_cache_that_cannot_be_written(spec: str, tmp_path: Path) -> None:
    """A file in the way is the user's mistake, a disk that takes nothing the machine's fault."""
    (tmp_path / "file").write_text("")
    for place, kind in ((tmp_path / "file" / "cache", UserError), (Path("/proc/cache"), MachineError)):
        with pytest.raises(kind, match="EXTRAPO_CACHE") as error:
            prepare(spec, cache=place)
        assert "\n" not in str(error.value)


def test_the_environment_names_the_cache(spec: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXTRAPO_CACHE", str(cache))
    prepare(spec, tokenizer="byte")
    assert corpora(cache) == 1
    assert shard(cache).exists()


def test_a_mistake_leaves_no_cache(cache: Path) -> None:
    with pytest.raises(UserError):
        prepare("text:nowhere.txt", cache=cache)
    assert not cache.exists()


def test_a_corpus_is_frozen(spec: str, cache: Path) -> None:
    corpus = prepare(spec, tokenizer="byte", cache=cache)
    with pytest.raises(dataclasses.FrozenInstanceError):
        corpus.name = "other"  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        corpus.train[0] = 0


@pytest.mark.slow
def test_the_default_corpus_is_large_enough(cache: Path) -> None:
    corpus = prepare("stdlib", cache=cache)
    assert corpus.tokenizer.vocab_size == 4096
    assert len(corpus.train) > 1_500_000
    assert len(corpus.validation) >= 150_000
    assert os.path.getsize(shard(cache)) == 2 * len(corpus.train)
