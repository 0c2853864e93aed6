"""The validation split of a text, cut by a tokenizer that is there: what an evaluation reads, and no more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from extrapo.data.corpora import read_documents
from extrapo.data.shards import stored_validation
from extrapo.data.tokenizer import Tokenizer


@dataclass(frozen=True)
class HeldOut:
    """A text to be measured on.

    Args:
        name: of the corpus.
        sha256: hash of the text of both splits, as a run on it has recorded.
        validation: (M,) ids of the validation split.
        tokenizer: what made the ids.
    """

    name: str
    sha256: str
    validation: np.ndarray
    tokenizer: Tokenizer


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
        UserError: no such corpus, or no usable text.
    """
    documents = read_documents(spec)
    stored = stored_validation(documents.name, documents.sha256, tokenizer.sha256, cache)
    if stored is not None:
        return HeldOut(documents.name, documents.sha256, stored, tokenizer)
    say(f"tokenizing {documents.name}, validation split: {len(documents.validation):,} documents")
    pieces = [np.array([tokenizer.separator, *ids]) for ids in tokenizer.encode_batch(documents.validation)]
    return HeldOut(documents.name, documents.sha256, np.concatenate([np.empty(0, np.int64), *pieces]), tokenizer)
