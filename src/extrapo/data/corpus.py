"""A tokenized text, opened lazily: shards, documents and annotations are mapped, and read where they are asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extrapo.data.sources import SPLITS, Split
from extrapo.data.tokenizer import Tokenizer
from extrapo.data.tokens import TokenArray


@dataclass(frozen=True)
class Corpus:
    """A tokenized text.

    Attributes:
        name: short name, such as `stdlib`.
        spec: what it was asked for by.
        sha256: hash of the text of both splits.
        train: (N,) ids of the training split, mapped read-only; an array where they are one shard.
        validation: (M,) ids of the validation split; empty if the text is a single document.
        tokenizer: what made the ids.
        manifest: what is known of the shards: counts of tokens, documents and bytes, hashes, versions.
        folder: where they lie.
    """

    name: str
    spec: str
    sha256: str
    train: Any
    validation: Any
    tokenizer: Tokenizer
    manifest: dict[str, Any]
    folder: Path = field(default=Path(), repr=False)

    @cached_property
    def train_documents(self) -> NDArray[np.int64]:
        """(documents + 1,) the token at which each begins, its separator, and the end of the split."""
        return self.documents("train")

    @cached_property
    def validation_documents(self) -> NDArray[np.int64]:
        """(documents + 1,) the same of the validation split: document i is `validation[b[i] : b[i + 1]]`."""
        return self.documents("validation")

    def documents(self, split: Split) -> NDArray[np.int64]:
        """The borders of a split's documents, mapped."""
        return _mapped(self.folder / self.manifest["splits"][split]["documents_file"]["file"], "<i8")

    def annotations(self, split: Split) -> Iterator[dict[str, Any]]:
        """What is known of places in a split, in their order, one by one.

        Each has `token`, the index in the split of its first token, `tokens`, how many they are, `distance`, tokens
        since the place that it refers back to (None where there is none), and the keys of its label.
        """
        entry = self.manifest["splits"][split].get("annotations_file")
        if entry is None:
            return
        with (self.folder / entry["file"]).open(encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)


def open_corpus(folder: Path, manifest: dict[str, Any], tokenizer: Tokenizer, spec: str) -> Corpus:
    """The corpus of a folder whose files are known to be there."""
    train, validation = (_ids(folder, manifest, split) for split in SPLITS)
    return Corpus(manifest["corpus"], spec, manifest["sha256"], train, validation, tokenizer, manifest, folder)


def _ids(folder: Path, manifest: dict[str, Any], split: Split) -> NDArray[Any] | TokenArray:
    dtype = manifest["dtype"]
    shards = [
        _mapped(folder / one["file"], dtype, one.get("offset", 0), one["tokens"])
        for one in manifest["splits"][split]["shards"]
    ]
    return shards[0] if len(shards) == 1 else TokenArray(shards)


def _mapped(path: Path, dtype: str, offset: int = 0, count: int | None = None) -> NDArray[Any]:
    size = path.stat().st_size - offset if count is None else count * np.dtype(dtype).itemsize
    if not size:  # an empty file cannot be mapped
        return np.empty(0, dtype)
    return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=(size // np.dtype(dtype).itemsize,))
