"""Any protocol within documents: no window crosses a border, and what a target is predicted from is its own text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from extrapo.errors import UserError
from extrapo.evaluation.protocols.base import Protocol, ScoredWindow, Targets, stretches_of

#: A bootstrap draws no more than so many blocks: of more documents, neighbours go together.
MOST_BLOCKS = 1024


class DocumentTargets(list[range]):
    """The targets of several documents, and of each its place in the text, its tokens, and the targets within it."""

    def __init__(self, parts: Sequence[tuple[int, int, Targets]]) -> None:
        super().__init__(
            range(start + one.start, start + one.stop) for start, _, within in parts for one in stretches_of(within)
        )
        self.parts = parts


@dataclass(frozen=True)
class WithinDocuments(Protocol):
    """Each document is a text of its own to another protocol, from the first on until enough is scored. A document that
    is shorter than a length is shown whole; one that the protocol finds too short for any target is left out. The
    first token of a document has no past and is no target. Blocks of a bootstrap are documents.

    Args:
        inner: the protocol.
        documents: the tokens of each, from left to right.

    Raises:
        UserError: `targets`, where no document has any.
    """

    inner: Protocol
    documents: Sequence[range] = field(repr=False)

    @property
    def description(self) -> str:
        return f"{self.inner.description}, within documents"

    def stride(self, length: int) -> int | None:
        return self.inner.stride(length)

    def bins(self, length: int) -> Sequence[range]:
        return self.inner.bins(length)

    def targets(self, lengths: Sequence[int], available: int, wanted: int) -> DocumentTargets:
        parts: list[tuple[int, int, Targets]] = []
        refusal: UserError | None = None
        for document in self.documents:
            size = len(document)
            if wanted <= 0 or size < 2:
                continue
            try:
                within = self.inner.targets([min(length, size - 1) for length in lengths], size, wanted)
            except UserError as cause:
                refusal = cause
                continue
            parts.append((document.start, size, within))
            wanted -= sum(map(len, stretches_of(within)))
        if not parts:
            raise UserError(f"no document can be scored: {refusal or 'each is a single token'}")
        return DocumentTargets(parts)

    def windows(self, length: int, targets: DocumentTargets) -> Iterator[ScoredWindow]:
        for start, size, within in targets.parts:
            for window in self.inner.windows(min(length, size - 1), within):
                yield ScoredWindow(*(start + place for place in window))

    def block_of(self, targets: Sequence[range]) -> NDArray[np.int64]:
        """(last target + 1,) the document of each target, counted among those that are scored."""
        places = np.concatenate([np.arange(one.start, one.stop) for one in targets])
        document = np.searchsorted([one.start for one in self.documents], places, side="right")
        found, number = np.unique(document, return_inverse=True)
        block = np.zeros(targets[-1].stop, dtype=np.int64)
        block[places] = number * min(len(found), MOST_BLOCKS) // len(found)
        return block
