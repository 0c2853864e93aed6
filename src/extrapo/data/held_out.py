"""The validation split of a text, cut by a tokenizer that is there: what an evaluation reads, and no more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extrapo.data import manifest as manifests
from extrapo.data.corpus import Corpus, open_corpus
from extrapo.data.encoding import encode, jobs
from extrapo.data.mixture import weighted
from extrapo.data.opening import prepare
from extrapo.data.preparation import Text, look, stretches
from extrapo.data.progress import Unwatched
from extrapo.data.sources import TOKEN_FILES, open_source
from extrapo.data.store import home, prepared_folder
from extrapo.data.store import stored as every_stored
from extrapo.data.tokenizer import Tokenizer
from extrapo.errors import UserError
from extrapo.files import write_text


@dataclass(frozen=True)
class HeldOut:
    """A text to be measured on.

    Args:
        name: of the corpus.
        sha256: hash of the text of both splits, as a run on it has recorded.
        validation: (M,) ids of the validation split.
        tokenizer: what made the ids.
        validation_documents: (documents + 1,) the token at which each of them begins, and the end.
    """

    name: str
    sha256: str
    validation: Any
    tokenizer: Tokenizer
    validation_documents: NDArray[np.int64]


def held_out(
    spec: str,
    tokenizer: Tokenizer,
    *,
    cache: str | Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> HeldOut:
    """The validation split of a corpus: from the cache where some run has left it there, else tokenized now.

    The training split is not tokenized, and nothing is written.

    Args:
        spec: as for `prepare`.
        tokenizer: of the model that is measured.
        cache: where the shards lie, as for `prepare`.
        say: called with a line before a step that takes time.

    Raises:
        UserError: no such corpus, no usable text, or a prepared one that another tokenizer has cut.
    """
    root = home(cache)
    shares = weighted(spec)
    if shares is not None:
        raise UserError(f"measure on one corpus at a time: {' or '.join(name for name, _ in shares)}")
    if prepared_folder(spec, root) is not None or spec.partition(":")[0] == TOKEN_FILES:
        corpus = _prepared(spec, tokenizer, cache, say)
        return HeldOut(corpus.name, corpus.sha256, corpus.validation, tokenizer, corpus.validation_documents)
    source = open_source(spec)
    text = look(source, None, Unwatched())
    for folder, manifest in every_stored(root):
        same = (manifest["sha256"], manifest["tokenizer"]["sha256"]) == (text.sha256, tokenizer.sha256)
        if same and manifests.check(folder, manifest) is None:
            corpus = open_corpus(folder, manifest, tokenizer, spec)
            return HeldOut(corpus.name, corpus.sha256, corpus.validation, tokenizer, corpus.validation_documents)
    parts = text.parts or source.parts()
    count = "" if text.scan is None else f": {int(text.scan.validation.sum()):,} documents"
    say(f"tokenizing {source.name}, validation split{count}")
    dtype = "<u2" if tokenizer.vocab_size <= 65_535 else "<u4"
    ids: list[NDArray[Any]] = [np.empty(0, dtype)]
    borders, tokens = [], 0
    held = ((at, one) for at, one in stretches(Text(source, parts, text.scan), tokenizer) if one.split == "validation")
    for job in jobs(held):
        encoded = encode(job, tokenizer, dtype)["validation"]
        ids.append(encoded.ids)
        borders.append(encoded.starts + tokens)
        tokens += len(encoded.ids)
    ends = np.concatenate([*borders, [tokens]]).astype(np.int64)
    return HeldOut(source.name, text.sha256, np.concatenate(ids), tokenizer, ends)


def _prepared(spec: str, tokenizer: Tokenizer, cache: str | Path | None, say: Callable[[str], None]) -> Corpus:
    """A corpus whose ids are there already, and are those of the tokenizer."""
    with TemporaryDirectory() as folder:
        path = write_text(Path(folder) / "tokenizer.json", tokenizer.to_json())
        return prepare(spec, tokenizer=f"file:{path}", cache=cache, say=say)
