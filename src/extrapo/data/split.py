"""Which documents are held out: those whose hash is smallest, all copies of a text together."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def held_out(keys: NDArray[Any], texts: NDArray[Any], characters: NDArray[Any], share: float) -> NDArray[np.bool_]:
    """(N,) which documents make the validation split.

    Documents are held out by ascending hash until they make up `share` of the characters: at least one text, if there
    are two, and never all. The choice depends on the hashes, not on the order of the documents or the place where
    they lie. Copies of a text have the key of the first of them, so that none is on both sides.

    Args:
        keys: (N,) integers, the hash that decides.
        texts: (N,) the hash of the text; equal where it is a copy.
        characters: (N,) of the text.
        share: from 0 to 1.
    """
    if not len(keys):
        return np.zeros(0, bool)
    _, first, copy_of = np.unique(texts, return_index=True, return_inverse=True)
    of_first = keys[first[copy_of]]
    by_hash, start = np.unique(of_first, return_index=False, return_inverse=True)
    sizes = np.zeros(len(by_hash), np.int64)
    np.add.at(sizes, start, characters.astype(np.int64))
    before = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    held = before < share * int(sizes.sum())
    held[-1] = False
    return np.asarray(held[start], bool)


def below_share(key: bytes, share: float) -> bool:
    """Whether a document is held out of a text that is not read twice: its hash alone decides."""
    return int.from_bytes(key[:8], "big") < share * 2**64
