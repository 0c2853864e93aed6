"""Where prepared corpora lie: the cache, by what they were made from, and names that lead there."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import platformdirs

from extrapo.data.manifest import NAME, read_manifest
from extrapo.data.sources import kinds
from extrapo.data.tokenizer import Tokenizer
from extrapo.errors import MachineError, UserError
from extrapo.files import check_folder, write_text
from extrapo.reading import path_of

TOKENIZER = "tokenizer.json"


def home(cache: str | Path | None) -> Path:
    """The cache: as asked for, else $EXTRAPO_CACHE, else the user's cache folder.

    Raises:
        UserError: a file is there.
    """
    chosen = cache or os.environ.get("EXTRAPO_CACHE") or platformdirs.user_cache_dir("extrapo", appauthor=False)
    folder = path_of(chosen)
    check_folder(folder, "set EXTRAPO_CACHE to a folder")
    return folder


def short(content: str) -> str:
    """A name for what a content decides."""
    return sha256(content.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Place:
    """Where a corpus is to lie.

    Args:
        folder: of the finished corpus.
        work: where it is made.
        lock: a file that only one process at a time holds.
    """

    folder: Path
    work: Path
    lock: Path

    @classmethod
    def in_cache(cls, root: Path, name: str, key: str) -> Place:
        """The place of what `key` decides."""
        label = f"{name}-{short(key)}"
        return cls(root / "corpora" / label, root / "unfinished" / label, root / "locks" / label)

    @classmethod
    def at(cls, folder: Path) -> Place:
        """A folder that somebody has chosen.

        Raises:
            UserError: it is there, and is no prepared corpus.
        """
        if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / NAME).is_file())):
            raise UserError(f"{folder} is there already, and holds no prepared corpus: take another folder")
        work = folder.with_name(f".{folder.name}.unfinished")
        return cls(folder, work, folder.with_name(f".{folder.name}.lock"))


def output_place(output: str, root: Path, name: str, key: str) -> tuple[Place, str | None]:
    """Where `output` sends a corpus, and the name under which it is then known; a folder has a separator in its path.

    Raises:
        UserError: a name that is taken by a kind of corpus, or that no file can have.
    """
    if os.sep in output or output.startswith((".", "~")):
        folder = path_of(output).resolve()
        check_folder(folder, "give another `output`")
        return Place.at(folder), None
    check_name(output)
    return Place.in_cache(root, name, key), output


def check_name(name: str) -> None:
    """UserError for what cannot name a prepared corpus."""
    if name in kinds():
        raise UserError(f"'{name}' is a kind of corpus: give what you prepare another name")
    if not re.fullmatch(r"[\w][\w.+-]*", name):
        raise UserError(
            f"'{name}' cannot name a corpus: letters, digits, '.', '+', '-' and '_', or the path of a folder"
        )


def set_name(root: Path, name: str, folder: Path) -> None:
    """Let a name lead to a corpus of the cache, instead of what it led to before."""
    # What moves with the cache is told from there.
    where = folder.relative_to(root).as_posix() if folder.is_relative_to(root) else str(folder.resolve())
    write_text(root / "names" / f"{name}.json", json.dumps({"folder": where}))


def named(root: Path, name: str) -> Path | None:
    """The folder that a name leads to; None where there is no such name."""
    try:
        pointer = json.loads((root / "names" / f"{name}.json").read_text(encoding="utf-8"))
        return root / str(pointer["folder"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def names(root: Path) -> dict[Path, list[str]]:
    """folder -> the names that lead there."""
    leads: dict[Path, list[str]] = {}
    for path in sorted(root.glob("names/*.json")):
        folder = named(root, path.stem)
        if folder is not None:
            leads.setdefault(folder, []).append(path.stem)
    return leads


def prepared_folder(spec: str, root: Path) -> Path | None:
    """The folder of the prepared corpus that a spec names or is the path of; None where it is another spec."""
    folder = named(root, spec) if re.fullmatch(r"[\w.+-]+", spec) else None
    # Damaged or gone, it is still what the name says, and whoever opens it says what is wrong.
    if folder is not None:
        return folder
    if spec.partition(":")[0] in kinds():
        return None
    path = path_of(spec)
    return path if (path / NAME).is_file() else None


def stored(root: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Every corpus of the cache, or with a name in it, with its manifest."""
    found = ((folder, read_manifest(folder)) for folder in _folders(root))
    return [(folder, manifest) for folder, manifest in found if manifest is not None]


def damaged(root: Path) -> list[Path]:
    """The folders that should hold a corpus, and of which nobody can say what they hold."""
    return [folder for folder in _folders(root) if read_manifest(folder) is None]


def _folders(root: Path) -> list[Path]:
    return sorted({path.parent for path in root.glob(f"corpora/*/{NAME}")} | set(names(root)))


def kept_tokenizer(stem: Path) -> Tokenizer | None:
    """The sound tokenizer stored under `stem`: its file's name goes on with its own hash."""
    for path in stem.parent.glob(f"{stem.name}-*.json"):
        try:
            tokenizer = Tokenizer.load(path)
        except UserError:
            continue
        if path.stem.endswith(tokenizer.sha256[:16]):
            return tokenizer
    return None


def keep_tokenizer(stem: Path, tokenizer: Tokenizer) -> None:
    """Store a tokenizer under `stem`."""
    write_text(stem.with_name(f"{stem.name}-{tokenizer.sha256[:16]}.json"), tokenizer.to_json())


def read_tokenizer(folder: Path, manifest: dict[str, Any]) -> Tokenizer | None:
    """The tokenizer that lies beside the shards; None where it is not the one that made them."""
    try:
        tokenizer = Tokenizer.load(folder / TOKENIZER)
    except UserError:
        return None
    said = manifest["tokenizer"]
    return tokenizer if tokenizer.sha256 == said["sha256"] and said["vocab_size"] <= tokenizer.vocab_size else None


@contextmanager
def on_disk(root: Path) -> Iterator[None]:
    """Where the disk refuses, say so in a line."""
    try:
        yield
    except OSError as cause:
        reason = cause.strerror or cause
        if cause.filename is not None and not Path(os.fsdecode(cause.filename)).is_relative_to(root):
            raise MachineError(f"cannot write {os.fsdecode(cause.filename)}: {reason}") from cause
        raise MachineError(
            f"cannot write the token cache {root}: {reason}; "
            "set EXTRAPO_CACHE to a folder that may be written and has room"
        ) from cause
