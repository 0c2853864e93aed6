"""Token shards on disk: written once per (text, tokenizer) under a lock, then mapped into memory."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import platformdirs

from extrapo.data.corpora import Documents, read_documents
from extrapo.data.tokenizer import Tokenizer, identity, make_tokenizer
from extrapo.errors import MachineError, UserError
from extrapo.files import atomic_write, write_text

FORMAT = 1
"""Version of the layout: a shard is a flat little-endian array of ids, a separator before every document."""

VERIFIED_BYTES = 256_000_000
"""Shards up to this size are checked by their hash when opened (0.2 s at most), larger ones by their size."""

_DOCUMENTS_AT_ONCE = 256


@dataclass(frozen=True)
class Corpus:
    """A tokenized text.

    Attributes:
        name: short name, such as `stdlib`.
        spec: what it was asked for by.
        sha256: hash of the text of both splits.
        train: (N,) ids of the training split, mapped read-only from its shard.
        validation: (M,) ids of the validation split; empty if the text is a single document.
        tokenizer: what made the ids.
        manifest: what is known of the shards: counts of tokens, documents and bytes, hashes, versions.
    """

    name: str
    spec: str
    sha256: str
    train: np.ndarray
    validation: np.ndarray
    tokenizer: Tokenizer
    manifest: dict[str, Any]


def prepare(
    spec: str,
    *,
    tokenizer: str = "bpe",
    vocab_size: int = 4096,
    cache: str | Path | None = None,
    say: Callable[[str], None] | None = None,
) -> Corpus:
    """Read, tokenize and store a corpus; what is stored already, and sound, is only opened.

    Args:
        spec: `stdlib`, `text:PATH`, `wikitext-2` or `wikitext-2:PATH` (see `corpora.catalogue`).
        tokenizer: `bpe` (trained on the training split), `byte`, `gpt2:FOLDER`, or `file:PATH` (`Tokenizer.to_json`).
        vocab_size: of `bpe`, the separator included; less where the text is too small for it.
        cache: where the shards lie; default $EXTRAPO_CACHE, else the user's cache folder.
        say: called with a line when a step begins that takes time.

    Raises:
        UserError: no such corpus or tokenizer, or no usable text.
        MachineError: the cache cannot be written.
    """
    documents = read_documents(spec)
    recipe = identity(tokenizer, vocab_size, documents.train_sha256)
    home = _home(cache)
    vocabulary = home / "tokenizers" / f"{tokenizer.partition(':')[0]}-{_short(recipe)}"
    folder = home / "corpora" / f"{documents.name}-{_short(f'{FORMAT} {documents.sha256} {recipe}')}"

    corpus = _open(folder, vocabulary, documents, spec)
    if corpus is None:
        with _on_disk(home):
            folder.mkdir(parents=True, exist_ok=True)
            vocabulary.parent.mkdir(exist_ok=True)
            with filelock.FileLock(folder / "lock"):
                corpus = _open(folder, vocabulary, documents, spec)
                if corpus is None:
                    report = say or (lambda line: None)
                    vocab = _vocabulary(vocabulary)
                    if vocab is None:
                        report(f"making the tokenizer '{tokenizer}'")
                        vocab = make_tokenizer(tokenizer, vocab_size, documents.train)
                        _keep(vocabulary, vocab)
                    _write(folder, documents, vocab, report)
                    corpus = _open(folder, vocabulary, documents, spec)
    if corpus is None:
        raise MachineError(f"what was written to {folder} does not read back; set EXTRAPO_CACHE to another disk")
    return corpus


def stored_validation(
    name: str, text_sha256: str, tokenizer_sha256: str, cache: str | Path | None = None
) -> np.ndarray | None:
    """The ids of the validation split, where they are stored and sound, by whatever name the tokenizer was asked for;
    None where they are not.
    """
    for folder in sorted((_home(cache) / "corpora").glob(f"{name}-*")):
        manifest = _manifest(folder)
        if manifest is None or (manifest["sha256"], manifest["tokenizer"]["sha256"]) != (text_sha256, tokenizer_sha256):
            continue
        shard = manifest["splits"]["validation"]
        if _sound(folder / shard["file"], shard):
            return _ids(folder, manifest, "validation")
    return None


def _home(cache: str | Path | None) -> Path:
    chosen = cache or os.environ.get("EXTRAPO_CACHE") or platformdirs.user_cache_dir("extrapo", appauthor=False)
    return Path(chosen).expanduser()


def _short(content: str) -> str:
    return sha256(content.encode()).hexdigest()[:16]


def _open(folder: Path, vocabulary: Path, documents: Documents, spec: str) -> Corpus | None:
    """The stored corpus, or None if any of it is missing, cut short or damaged."""
    manifest = _manifest(folder)
    if manifest is None or not all(_sound(folder / shard["file"], shard) for shard in manifest["splits"].values()):
        return None
    tokenizer = _vocabulary(vocabulary)
    if tokenizer is None or tokenizer.sha256 != manifest["tokenizer"]["sha256"]:
        return None
    train, validation = (_ids(folder, manifest, split) for split in ("train", "validation"))
    return Corpus(documents.name, spec, documents.sha256, train, validation, tokenizer, manifest)


def _manifest(folder: Path) -> dict[str, Any] | None:
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return manifest if manifest.get("format") == FORMAT else None


def _sound(path: Path, shard: dict[str, Any]) -> bool:
    try:
        if path.stat().st_size != shard["bytes"]:
            return False
        if shard["bytes"] > VERIFIED_BYTES:
            return True
        with path.open("rb") as file:
            return file_digest(file, "sha256").hexdigest() == str(shard["sha256"])
    except OSError:
        return False


def _ids(folder: Path, manifest: dict[str, Any], split: str) -> np.ndarray:
    shard = manifest["splits"][split]
    if not shard["tokens"]:  # an empty file cannot be mapped
        return np.empty(0, manifest["dtype"])
    return np.memmap(folder / shard["file"], dtype=manifest["dtype"], mode="r")


def _vocabulary(stem: Path) -> Tokenizer | None:
    """The sound tokenizer stored under `stem`: its file's name goes on with its own hash."""
    for path in stem.parent.glob(f"{stem.name}-*.json"):
        try:
            tokenizer = Tokenizer.load(path)
        except UserError:
            continue
        if path.stem.endswith(tokenizer.sha256[:16]):
            return tokenizer
    return None


def _keep(stem: Path, tokenizer: Tokenizer) -> None:
    write_text(stem.with_name(f"{stem.name}-{tokenizer.sha256[:16]}.json"), tokenizer.to_json())


def _write(folder: Path, documents: Documents, tokenizer: Tokenizer, say: Callable[[str], None]) -> None:
    dtype = "<u2" if tokenizer.vocab_size <= 65_535 else "<u4"
    splits = {}
    for split, texts in (("train", documents.train), ("validation", documents.validation)):
        say(f"tokenizing {documents.name}, {split} split: {len(texts):,} documents")
        splits[split] = _write_shard(folder / f"{split}.bin", texts, tokenizer, dtype)
    manifest = {
        "format": FORMAT,
        "corpus": documents.name,
        "sha256": documents.sha256,
        "tokenizer": {
            "name": tokenizer.name,
            "sha256": tokenizer.sha256,
            "vocab_size": tokenizer.vocab_size,
            "separator": tokenizer.separator,
        },
        "dtype": dtype,
        "splits": splits,
    }
    # Last: a folder without a manifest is not yet a corpus.
    write_text(folder / "manifest.json", json.dumps(manifest, indent=2))


def _write_shard(path: Path, documents: Sequence[str], tokenizer: Tokenizer, dtype: str) -> dict[str, Any]:
    digest = sha256()
    size = 0
    with atomic_write(path) as file:
        for first in range(0, len(documents), _DOCUMENTS_AT_ONCE):
            for ids in tokenizer.encode_batch(documents[first : first + _DOCUMENTS_AT_ONCE]):
                content = np.array([tokenizer.separator, *ids], dtype).tobytes()
                digest.update(content)
                size += file.write(content)
    return {
        "file": path.name,
        "tokens": size // np.dtype(dtype).itemsize,
        "documents": len(documents),
        "text_bytes": sum(len(document.encode()) for document in documents),
        "bytes": size,
        "sha256": digest.hexdigest(),
    }


@contextmanager
def _on_disk(home: Path) -> Iterator[None]:
    try:
        yield
    except OSError as cause:
        raise MachineError(
            f"cannot write the token cache {home}: {cause.strerror or cause}; "
            "set EXTRAPO_CACHE to a folder that may be written and has room"
        ) from cause
