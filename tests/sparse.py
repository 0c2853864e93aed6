"""Prepared corpora of any size that take no room: shards of zeros, of which the disk keeps only the length."""

from __future__ import annotations

import json
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from extrapo.data import manifest
from extrapo.data.sources import SPLITS
from extrapo.data.store import TOKENIZER
from extrapo.data.tokenizer import ByteTokenizer

SHARD = 100_000_000
#: Tokens of a document.
DOCUMENT = 1_000


def sparse_corpus(folder: Path, tokens: int, held_out: int = 10_000) -> Path:
    """Write a corpus of so many training tokens."""
    folder.mkdir()
    tokenizer = ByteTokenizer()
    (folder / TOKENIZER).write_text(tokenizer.to_json())
    own = {"name": "byte", "sha256": tokenizer.sha256, "vocab_size": 257, "separator": tokenizer.separator}
    document = {
        "format": manifest.FORMAT,
        **dict.fromkeys(("corpus", "spec", "recipe"), folder.name),
        "sha256": sha256(f"{tokens} zeros".encode()).hexdigest(),
        "tokenizer": own,
        "source": {},
        "dtype": "<u2",
        "splits": {split: _split(folder, split, size) for split, size in zip(SPLITS, (tokens, held_out), strict=True)},
    }
    (folder / manifest.NAME).write_text(json.dumps(document))
    return folder


def _split(folder: Path, split: str, tokens: int) -> dict[str, Any]:
    shards = []
    for number, start in enumerate(range(0, tokens, SHARD)):
        path, size = folder / f"{split}-{number:05d}.bin", min(SHARD, tokens - start)
        with path.open("wb") as file:
            file.truncate(2 * size)
        shards.append({"file": path.name, "bytes": 2 * size, "sha256": _zeros(2 * size), "tokens": size})
    borders = folder / f"{split}.documents"
    np.append(np.arange(0, tokens, DOCUMENT), tokens).astype("<i8").tofile(borders)
    return {
        "tokens": tokens,
        "documents": -(-tokens // DOCUMENT),
        "text_bytes": tokens,
        "annotations": 0,
        "shards": shards,
        "documents_file": manifest.entry(borders),
    }


@cache
def _zeros(size: int) -> str:
    """The hash of so many."""
    return sha256(bytes(size)).hexdigest()
