"""Token files of nanoGPT and llm.c: the ids as they are, written here by hand."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from extrapo.data import BatchLoader, prepare, token_files

SEPARATOR = 256
IDS = np.random.default_rng(0).integers(0, 256, 4000)
IDS[::50] = SEPARATOR


def plain(path: Path, ids: np.ndarray) -> None:
    path.write_bytes(struct.pack(f"<{len(ids)}H", *ids.tolist()))


def headed(path: Path, ids: np.ndarray) -> None:
    """As llm.c writes them: 256 int32 and then uint16."""
    plain(path, ids)
    path.write_bytes(struct.pack("<256i", 20240520, 1, len(ids), *[0] * 253) + path.read_bytes())


@pytest.mark.parametrize("write", [plain, headed])
def test_the_ids_as_they_are(tmp_path: Path, write: object) -> None:
    assert callable(write)
    folder = tmp_path / "tokens"
    folder.mkdir()
    for name, first, stop in (("a_train_1", 0, 1000), ("a_train_2", 1000, 3000), ("a_val_0", 3000, 4000)):
        write(folder / f"{name}.bin", IDS[first:stop])
    before = {path.name: path.read_bytes() for path in folder.glob("*.bin")}
    corpus = prepare(f"bin:{folder}", tokenizer="byte", cache=tmp_path / "cache", output="theirs")
    assert np.array_equal(corpus.train[:], IDS[:3000])
    assert np.array_equal(corpus.validation[:], IDS[3000:])
    assert {path.name: path.read_bytes() for path in folder.glob("*.bin")} == before
    assert np.array_equal(corpus.train_documents, [*range(0, 3000, 50), 3000])
    train = corpus.manifest["splits"]["train"]
    assert (train["documents"], train["text_bytes"]) == (60, 3000 - 60)
    assert (folder / "extrapo" / "manifest.json").is_file()
    again = prepare("theirs", cache=tmp_path / "cache")
    assert np.array_equal(again.train[:], corpus.train[:])
    batch = next(iter(BatchLoader(again.train, seq_len=100, batch_size=8, seed=0)))
    assert not isinstance(batch, tuple)
    assert batch.shape == (8, 101)


def test_files_without_a_validation_file_end_in_one(tmp_path: Path) -> None:
    plain(tmp_path / "train.bin", IDS)
    corpus = prepare(f"bin:{tmp_path / 'train.bin'}", tokenizer="byte", cache=tmp_path / "cache")
    assert np.array_equal(np.concatenate([corpus.train[:], corpus.validation[:]]), IDS)
    assert corpus.validation[0] == SEPARATOR
    assert 150 < len(corpus.validation) <= 200


def test_documents_that_end_with_their_separator(tmp_path: Path) -> None:
    plain(tmp_path / "train.bin", IDS[1:2000])
    plain(tmp_path / "val.bin", IDS[1:100])
    corpus = prepare(f"bin:{tmp_path}", tokenizer="byte", cache=tmp_path / "cache")
    assert corpus.validation_documents.tolist() == [0, 49, 99]


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tokens").mkdir()
    plain(tmp_path / "tokens" / "train.bin", IDS)
    monkeypatch.setattr(token_files.os, "access", lambda path, mode: False)
    corpus = prepare(f"bin:{tmp_path / 'tokens'}", tokenizer="byte", cache=tmp_path / "cache")
    assert corpus.folder.is_relative_to(tmp_path / "cache")
    assert [path.name for path in (tmp_path / "tokens").iterdir()] == ["train.bin"]
    assert np.array_equal(corpus.train[:], IDS[: len(corpus.train)])


def test_changed_files_are_counted_again(tmp_path: Path) -> None:
    plain(tmp_path / "train.bin", IDS)
    first = prepare(f"bin:{tmp_path}", tokenizer="byte", cache=tmp_path / "cache")
    plain(tmp_path / "train.bin", IDS[::-1])
    second = prepare(f"bin:{tmp_path}", tokenizer="byte", cache=tmp_path / "cache")
    assert first.sha256 != second.sha256
    manifest = json.loads((tmp_path / "extrapo" / "manifest.json").read_text())
    assert manifest["sha256"] == second.sha256
