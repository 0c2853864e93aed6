"""What is known of prepared corpora: a list of them, one at length, and whether their files are sound."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from extrapo.data import manifest as manifests
from extrapo.data import store
from extrapo.data.corpus import Corpus
from extrapo.data.sources import SPLITS
from extrapo.data.store import home, names, prepared_folder, read_tokenizer, stored
from extrapo.errors import UserError, unknown

EXCERPT = 300
"""Tokens of a document that are shown."""

UNREAD = "the manifest is missing, damaged or of another version"


@dataclass(frozen=True)
class Length:
    """Documents of `low` to `high` tokens, the high end not included."""

    low: int
    high: int
    documents: int


def summary(corpus: Corpus, name: str) -> dict[str, Any]:
    """What `extrapo data prepare` says of a corpus, once it is there."""
    splits = corpus.manifest["splits"]
    return {
        "name": name,
        "corpus": corpus.name,
        "tokens": sum(splits[split]["tokens"] for split in SPLITS),
        "documents": sum(splits[split]["documents"] for split in SPLITS),
        "shards": sum(len(splits[split]["shards"]) for split in SPLITS),
        "sha256": corpus.sha256,
        "tokenizer": {
            **corpus.manifest["tokenizer"],
            "vocab_size": corpus.tokenizer.vocab_size,
        },
        "dtype": corpus.manifest["dtype"],
        "splits": {
            split: {key: splits[split][key] for key in ("tokens", "documents", "text_bytes", "annotations")}
            for split in SPLITS
        },
        "folder": str(corpus.folder),
    }


def description(corpus: Corpus, name: str) -> dict[str, Any]:
    """A corpus at length: counts, the lengths of its documents, the beginning of one."""
    lengths = np.concatenate([np.diff(corpus.documents(split)) for split in SPLITS])
    return {
        **summary(corpus, name),
        "source": corpus.manifest["source"],
        "lengths": [asdict(one) for one in distribution(lengths)],
        "longest": int(lengths.max(initial=0)),
        "median": float(np.median(lengths)) if len(lengths) else 0.0,
        "excerpt": excerpt(corpus),
    }


def distribution(lengths: np.ndarray[Any, Any]) -> list[Length]:
    """How many documents have how many tokens, by powers of two, from the shortest to the longest."""
    if not len(lengths):
        return []
    powers = np.log2(np.maximum(lengths, 1)).astype(int)
    counts = np.bincount(powers)
    return [Length(2**power, 2 ** (power + 1), int(counts[power])) for power in range(powers.min(), powers.max() + 1)]


def excerpt(corpus: Corpus) -> str:
    """The beginning of a document in the middle of the text that is held out, or that is trained on."""
    split = SPLITS[1] if len(corpus.validation) else SPLITS[0]
    borders, tokens = corpus.documents(split), corpus.validation if len(corpus.validation) else corpus.train
    middle = max(0, (len(borders) - 1) // 2)
    start, stop = int(borders[middle]), int(borders[min(middle + 1, len(borders) - 1)])
    return corpus.tokenizer.decode(tokens[start : min(stop, start + EXCERPT)].tolist()).strip()


def listing(cache: str | Path | None = None) -> list[dict[str, Any]]:
    """One row per prepared corpus of the cache, its names first."""
    root = home(cache)
    known = names(root)
    rows = []
    for folder, manifest in stored(root):
        splits = manifest["splits"]
        rows.append(
            {
                "name": ", ".join(known.get(folder, [])) or manifest["spec"],
                "corpus": manifest["corpus"],
                "spec": manifest["spec"],
                "tokenizer": manifest["tokenizer"]["name"],
                "vocab_size": manifest["tokenizer"]["vocab_size"],
                "tokens": sum(splits[split]["tokens"] for split in SPLITS),
                "documents": sum(splits[split]["documents"] for split in SPLITS),
                "validation": splits["validation"]["tokens"],
                "sha256": manifest["sha256"],
                "folder": str(folder),
            }
        )
    return rows


def damaged(cache: str | Path | None = None) -> list[str]:
    """A line for each folder of the cache that should hold a corpus, and whose manifest cannot be read."""
    root = home(cache)
    known = names(root)
    return [
        f"{', '.join(known.get(folder, [])) or folder.name}: {UNREAD} in {folder}" for folder in store.damaged(root)
    ]


def verified(spec: str | None, cache: str | Path | None = None) -> list[dict[str, Any]]:
    """One {"name", "folder", "files", "bytes", "fault"} per corpus, after reading all of its files.

    Args:
        spec: the name or the folder of one; None is every corpus of the cache.
        cache: where they lie.

    Raises:
        UserError: no such corpus.
        MachineError: a file that may not be read.
    """
    root = home(cache)
    known = names(root)
    if spec is None:
        folders = sorted({*(folder for folder, _ in stored(root)), *store.damaged(root)})
    else:
        folder = prepared_folder(spec, root)
        folders = [path for path, manifest in stored(root) if manifest["spec"] == spec] if folder is None else [folder]
        if not folders:
            raise unknown("prepared corpus", spec, (name for given in known.values() for name in given))
    rows = []
    for folder in folders:
        if spec is None and manifests.read_manifest(folder) is None:
            name = ", ".join(known.get(folder, [])) or folder.name
            rows.append({"name": name, "folder": str(folder), "files": 0, "bytes": 0, "fault": f"{UNREAD} in {folder}"})
            continue
        manifest = manifests.require(folder)
        entries = list(manifests.files(manifest))
        rows.append(
            {
                "name": ", ".join(known.get(folder, [])) or manifest["spec"],
                "folder": str(folder),
                "files": len(entries),
                "bytes": sum(entry["bytes"] for entry in entries),
                "fault": _fault(folder, manifest),
            }
        )
    return rows


def _fault(folder: Path, manifest: dict[str, Any]) -> str | None:
    wrong = manifests.fault(folder, manifest, hashes=True)
    if wrong is None and read_tokenizer(folder, manifest) is None:
        return f"the tokenizer in {folder} is not the one that the shards were made by"
    return wrong


def check_sound(rows: list[dict[str, Any]]) -> None:
    """UserError where one of the corpora that were verified is not sound."""
    faults = [row["fault"] for row in rows if row["fault"]]
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise UserError(f"{faults[0]}{more}; prepare the corpus again")
