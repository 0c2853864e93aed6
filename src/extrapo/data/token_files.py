"""Token files of others as they are: uint16 ids, plain as nanoGPT writes them, or behind llm.c's header.

Their manifest lies in a folder `extrapo` beside them, or in the cache where that cannot be written. llm.c's header is
256 int32: a magic number, a version, the count of tokens (dev/data/data_common.py of karpathy/llm.c).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extrapo.data import manifest as manifests
from extrapo.data.corpus import Corpus, open_corpus
from extrapo.data.progress import Watcher
from extrapo.data.sources import Split
from extrapo.data.sources.reading import official_splits, unreadable
from extrapo.data.store import TOKENIZER, Place, on_disk, read_tokenizer, short
from extrapo.data.tokenizer import Tokenizer
from extrapo.errors import UserError
from extrapo.files import locked, write_text
from extrapo.reading import path_of

MAGIC, VERSION = 20240520, 1
HEADER = 256 * 4
"""Bytes of llm.c's header."""

DTYPE = "<u2"
BLOCK = 1 << 24
"""Tokens that are looked at at once."""

HELD_OUT = 0.05
"""Part of the tokens at the end of the last file that is held out, where no file is called validation."""


@dataclass(frozen=True)
class Shard:
    """A stretch of a token file.

    Args:
        path: the file.
        offset: bytes before its first token.
        tokens: how many.
    """

    path: Path
    offset: int
    tokens: int

    def ids(self) -> NDArray[Any]:
        """(tokens,) mapped."""
        if not self.tokens:
            return np.empty(0, DTYPE)
        return np.memmap(self.path, DTYPE, "r", self.offset, (self.tokens,))


def token_corpus(spec: str, tokenizer: Tokenizer, root: Path, watcher: Watcher) -> Corpus:
    """The corpus of `bin:PATH`, a file or a folder of them; what it holds is counted once.

    Args:
        spec: `bin:PATH`.
        tokenizer: what the ids were made by; its separator begins the documents.
        root: the cache.
        watcher: told how far it is.

    Raises:
        UserError: no token files, a damaged one, or ids that the tokenizer has not.
        MachineError: what cannot be read or written.
    """
    argument = spec.partition(":")[2]
    if not argument:
        raise UserError("the corpus 'bin' needs a file or a folder of token files: bin:PATH")
    path = path_of(argument).resolve()
    if path.is_dir():
        files, beside, name = sorted(path.glob("*.bin")), path / "extrapo", path.name
    elif path.is_file():
        files, beside, name = [path], path.with_name(f"{path.stem}.extrapo"), path.stem
    else:
        raise UserError(f"there is no file or folder {path}")
    if not files:
        raise UserError(f"the folder {path} holds no token files: no file ends in .bin")
    splits = _splits([_shard(file) for file in files], tokenizer.separator)
    key = json.dumps([manifests.FORMAT, tokenizer.sha256, [_signature(file) for file in files]])
    cached = Place.in_cache(root, name, key)
    for place in (Place(beside, beside.with_name(f".{beside.name}.unfinished"), cached.lock), cached):
        manifest = manifests.read_manifest(place.folder)
        if manifest is not None and manifest["recipe"] == short(key):
            wrong = manifests.check(place.folder, manifest)
            made_by = read_tokenizer(place.folder, manifest)
            if wrong is None and made_by is not None:
                return open_corpus(place.folder, manifest, made_by, spec)
    with on_disk(root), locked(cached.lock):
        watcher.step(f"counting {name}", 2 * sum(shard.tokens for _, shards in splits for shard in shards))
        folder = beside if os.access(beside.parent, os.W_OK) else cached.folder
        work = folder.with_name(f".{folder.name}.unfinished")
        with on_disk(folder):
            work.mkdir(parents=True, exist_ok=True)
            try:
                _write(work, name, spec, key, splits, tokenizer, watcher)
                if folder.exists():
                    shutil.rmtree(folder)
                os.rename(work, folder)
            finally:
                shutil.rmtree(work, ignore_errors=True)
    return open_corpus(folder, manifests.require(folder), tokenizer, spec)


def _shard(path: Path) -> Shard:
    """The tokens of a file, behind its header if it has one."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header = np.frombuffer(file.read(HEADER), "<i4", count=min(3, size // 4))
    except OSError as cause:
        raise unreadable(path, cause) from cause
    if len(header) == 3 and header[0] == MAGIC:
        if header[1] != VERSION:
            raise UserError(f"{path} is a token file of llm.c's version {header[1]}: only version {VERSION} is read")
        if size != HEADER + 2 * int(header[2]):
            raise UserError(
                f"{path} has {max(0, size - HEADER) // 2:,} tokens behind its header, which says {header[2]:,}: "
                "it was cut or written to"
            )
        return Shard(path, HEADER, int(header[2]))
    if size % 2 or not size:
        raise UserError(f"{path} has {size:,} bytes: that are no tokens of two bytes")
    return Shard(path, 0, size // 2)


def _splits(shards: Sequence[Shard], separator: int) -> list[tuple[Split, list[Shard]]]:
    """The shards of each split: by their names, else the end of the last one is held out."""
    names = official_splits([shard.path for shard in shards])
    held = [shard for shard in shards if names.get(shard.path, "test") == "validation"]
    if held:
        return [("train", [shard for shard in shards if names.get(shard.path) == "train"]), ("validation", held)]
    *first, last = shards
    share = min(last.tokens // 2, int(HELD_OUT * sum(shard.tokens for shard in shards)))
    ids, border = last.ids(), last.tokens - share
    while border < last.tokens:
        found = np.flatnonzero(ids[border : border + BLOCK] == separator)
        if len(found):
            border += int(found[0])
            break
        border += BLOCK
    border = min(border, last.tokens)
    return [
        ("train", [*first, Shard(last.path, last.offset, border)]),
        ("validation", [Shard(last.path, last.offset + 2 * border, last.tokens - border)]),
    ]


def _signature(path: Path) -> list[Any]:
    stat = path.stat()
    return [path.name, stat.st_size, stat.st_mtime_ns, stat.st_ino]


def _write(
    folder: Path,
    name: str,
    spec: str,
    key: str,
    splits: Sequence[tuple[Split, list[Shard]]],
    tokenizer: Tokenizer,
    watcher: Watcher,
) -> None:
    sizes = tokenizer.token_bytes()
    seen = 0
    summary: dict[str, Any] = {}
    hashes = {path: manifests.sha256_of(path) for path in {shard.path for _, shards in splits for shard in shards}}
    inside = folder.parent == splits[0][1][0].path.parent
    for split, shards in splits:
        starts, text_bytes, first, entries = [], 0, 0, []
        for shard in shards:
            for at, ids in _blocks(shard):
                top = int(ids.max())
                if top >= tokenizer.vocab_size:
                    raise UserError(
                        f"{shard.path} holds the id {top:,}, and the tokenizer {tokenizer.name} has only "
                        f"{tokenizer.vocab_size:,}: it was made by another one"
                    )
                starts.append(np.flatnonzero(ids == tokenizer.separator) + first + at)
                text_bytes += int(sizes[ids].sum())
                seen += len(ids)
                watcher.progress(seen, seen)
            first += shard.tokens
            entries.append(
                {
                    "file": f"../{shard.path.name}" if inside else str(shard.path),
                    "offset": shard.offset,
                    "tokens": shard.tokens,
                    "bytes": shard.path.stat().st_size,
                    "sha256": hashes[shard.path],
                }
            )
        borders = np.concatenate([np.empty(0, np.int64), *starts, [first]]).astype("<i8")
        if first and borders[0] != 0:
            # The first document has no separator before it, as nanoGPT writes them.
            borders = np.concatenate([[0], borders]).astype("<i8")
        path = folder / f"{split}.documents"
        path.write_bytes(borders.tobytes())
        summary[split] = {
            "tokens": first,
            "documents": len(borders) - 1,
            "text_bytes": text_bytes,
            "annotations": 0,
            "shards": entries,
            "documents_file": manifests.entry(path),
        }
    write_text(folder / TOKENIZER, tokenizer.to_json())
    manifest = {
        "format": manifests.FORMAT,
        "corpus": name,
        "spec": spec,
        "recipe": short(key),
        "sha256": sha256(" ".join(hashes[path] for path in sorted(hashes)).encode()).hexdigest(),
        "tokenizer": {
            "name": tokenizer.name,
            "sha256": tokenizer.sha256,
            "vocab_size": tokenizer.vocab_size,
            "separator": tokenizer.separator,
            "spec": tokenizer.name,
        },
        "source": {},
        "limit_tokens": None,
        "dtype": DTYPE,
        "splits": summary,
    }
    write_text(folder / manifests.NAME, json.dumps(manifest, indent=2))


def _blocks(shard: Shard) -> Iterator[tuple[int, NDArray[Any]]]:
    ids = shard.ids()
    for at in range(0, shard.tokens, BLOCK):
        yield at, ids[at : at + BLOCK]
