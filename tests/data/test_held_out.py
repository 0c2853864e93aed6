"""The validation split alone: as the whole corpus has it, from the cache or made now."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from extrapo.data import Tokenizer, held_out, prepare


@pytest.fixture
def spec(tmp_path: Path) -> str:
    path = tmp_path / "some.txt"
    path.write_text("\n\n".join(f"{i} squared is {i * i}, and cubed {i**3}." for i in range(400)))
    return f"text:{path}"


@pytest.mark.parametrize("tokenizer", ["byte", "bpe"])
def test_it_is_that_of_the_corpus(spec: str, tokenizer: str, tmp_path: Path) -> None:
    whole = prepare(spec, tokenizer=tokenizer, vocab_size=280, cache=tmp_path / "cache")
    loaded = Tokenizer.from_json(whole.tokenizer.to_json())
    lines: list[str] = []
    for cache, said in ((tmp_path / "cache", 0), (tmp_path / "empty", 1)):
        lines.clear()
        alone = held_out(spec, loaded, cache=cache, say=lines.append)
        assert len(lines) == said
        assert (alone.name, alone.sha256, alone.tokenizer.sha256) == (whole.name, whole.sha256, whole.tokenizer.sha256)
        np.testing.assert_array_equal(alone.validation, whole.validation)
    assert lines[0].startswith("tokenizing some, validation split: ")
    assert not (tmp_path / "empty").exists()


def test_a_shard_that_is_damaged_is_not_used(spec: str, tmp_path: Path) -> None:
    whole = prepare(spec, tokenizer="byte", cache=tmp_path)
    ids = np.array(whole.validation)
    (shard,) = tmp_path.glob("corpora/*/validation.bin")
    shard.write_bytes(b"x" * shard.stat().st_size)
    np.testing.assert_array_equal(held_out(spec, whole.tokenizer, cache=tmp_path).validation, ids)


def test_another_tokenizer_finds_nothing_of_this_one(spec: str, tmp_path: Path) -> None:
    pieces = prepare(spec, tokenizer="bpe", vocab_size=280, cache=tmp_path)
    plain = prepare(spec, tokenizer="byte", cache=tmp_path / "other").tokenizer
    assert len(held_out(spec, plain, cache=tmp_path).validation) > len(pieces.validation)
