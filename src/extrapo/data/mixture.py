"""Several corpora as one, by weight: `stories:0.5,stdlib:0.5`, cut by one tokenizer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extrapo.data.corpus import Corpus
from extrapo.data.sources import SPLITS, Split
from extrapo.data.tokens import Mixture, TokenArray
from extrapo.errors import UserError


def weighted(spec: str) -> list[tuple[str, float]] | None:
    """The corpora of a mixture with their shares, which sum to 1; None for a spec of one corpus.

    Raises:
        UserError: a weight that is not positive, or a corpus named twice.
    """
    found, open_part = [], ""
    for part in spec.split(","):
        # A comma that no weight stands before is one of the spec itself.
        name, _, weight = f"{open_part}{part}".strip().rpartition(":")
        try:
            found.append((name, float(weight)))
            open_part = ""
        except ValueError:
            open_part += f"{part},"
    if open_part or len(found) < 2 or not all(name for name, _ in found):
        return None
    for name, value in found:
        if not 0 < value < float("inf"):
            raise UserError(f"the weight of '{name}' in a mixture must be positive, not {value:g}")
    names = [name for name, _ in found]
    if len(set(names)) < len(names):
        raise UserError(f"a mixture names a corpus twice: {spec}")
    total = sum(value for _, value in found)
    return [(name, value / total) for name, value in found]


@dataclass(frozen=True)
class MixedCorpus(Corpus):
    """A mixture: the training streams side by side, the validation documents of all in turn.

    Attributes:
        parts: the corpora.
        turns: (documents, 2) of the validation split: which part, and which document of it.
    """

    parts: tuple[Corpus, ...] = ()
    turns: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 2), np.int64), repr=False)

    def documents(self, split: Split) -> NDArray[np.int64]:
        if split == "train":
            raise UserError("the training texts of a mixture are no one text: ask its corpora for their documents")
        sizes = np.empty(len(self.turns), np.int64)
        for which, part in enumerate(self.parts):
            mine = self.turns[:, 0] == which
            sizes[mine] = np.diff(part.validation_documents)[self.turns[mine, 1]]
        return np.concatenate([[0], np.cumsum(sizes)])

    def annotations(self, split: Split) -> Iterator[dict[str, Any]]:
        if split == "train":
            raise UserError("the training texts of a mixture are no one text: ask its corpora for their annotations")
        moved = []
        for which, part in enumerate(self.parts):
            mine = np.flatnonzero(self.turns[:, 0] == which)
            borders = part.validation_documents
            for note in part.annotations("validation"):
                document = int(np.searchsorted(borders, note["token"], side="right")) - 1
                if document < len(mine):
                    # The documents of a part keep their order.
                    start = int(self.validation_documents[mine[document]])
                    moved.append({**note, "token": start + note["token"] - int(borders[document])})
        yield from sorted(moved, key=lambda note: note["token"])


def mix(spec: str, parts: Sequence[Corpus], weights: Sequence[float]) -> MixedCorpus:
    """The mixture of corpora that were cut by one tokenizer.

    Raises:
        UserError: they were not.
    """
    first = parts[0].tokenizer
    for part in parts[1:]:
        if part.tokenizer.sha256 != first.sha256:
            raise UserError(
                f"'{parts[0].spec}' and '{part.spec}' were prepared by different tokenizers, {first.name} and "
                f"{part.tokenizer.name}: prepare one of them again"
            )
    turns = take_turns([part.validation_documents for part in parts], weights)
    validation = TokenArray(
        [
            parts[which].validation[
                int(parts[which].validation_documents[document]) : int(parts[which].validation_documents[document + 1])
            ]
            for which, document in turns.tolist()
        ]
    )
    digest = sha256(" ".join(f"{part.sha256} {weight!r}" for part, weight in zip(parts, weights, strict=True)).encode())
    splits = {
        split: {
            key: sum(part.manifest["splits"][split][key] for part in parts)
            for key in ("tokens", "documents", "text_bytes", "annotations")
        }
        for split in SPLITS
    }
    return MixedCorpus(
        "+".join(part.name for part in parts),
        spec,
        digest.hexdigest(),
        Mixture([part.train for part in parts], weights),
        validation,
        first,
        {"corpus": spec, "splits": splits},
        parts=tuple(parts),
        turns=turns,
    )


def take_turns(borders: Sequence[NDArray[np.int64]], weights: Sequence[float]) -> NDArray[np.int64]:
    """(documents, 2) which document of which text comes next: each time of the text that is furthest behind its share.

    It ends when the text whose turn it is has no more, so that the shares hold to a document.
    """
    used, turns = [0] * len(borders), list[tuple[int, int]]()
    while True:
        tokens = [int(border[count] - border[0]) for border, count in zip(borders, used, strict=True)]
        which = min(range(len(borders)), key=lambda i: tokens[i] / weights[i])
        if used[which] + 1 >= len(borders[which]):
            return np.array(turns, np.int64).reshape(-1, 2)
        turns.append((which, used[which]))
        used[which] += 1
