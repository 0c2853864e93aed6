"""How a text is read, whatever the protocol: over the borders of documents or not, and what stands before a window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from torch import nn

from extrapo.errors import UserError
from extrapo.evaluation.protocols import Protocol
from extrapo.evaluation.protocols.documents import WithinDocuments


@dataclass(frozen=True)
class Reading:
    """How a text is read.

    Args:
        separator: the token that begins every document; None where documents cannot be told apart.
        by_document: whether windows stay within documents.
        start_token: `none`, a window begins with a token of the text, which is context and no target; `separator`, the
            separator stands in that token's place. Windows, targets and the number of tokens that the model sees are
            the same: with it the first token of the text that a window shows is a target, and it has no other past.
        dtype: of the weights.

    Raises:
        UserError: what needs a separator has none.
    """

    separator: int | None = None
    by_document: bool = False
    start_token: Literal["none", "separator"] = "none"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.separator is None and (self.by_document or self.start_token == "separator"):
            raise UserError("`by_document` and `start_token` need to know the separator that begins every document")

    def by(self, model: nn.Module) -> Reading:
        """The same by a model of these weights."""
        return replace(self, dtype=str(next(model.parameters()).dtype).removeprefix("torch."))

    @property
    def first(self) -> int | None:
        """What every window begins with; None is a token of the text."""
        return self.separator if self.start_token == "separator" else None

    def documents(self, tokens: np.ndarray[Any, Any]) -> Sequence[range]:
        """The documents of a text (N,), all of it in one where they cannot be told apart."""
        starts = [] if self.separator is None else np.flatnonzero(np.asarray(tokens) == self.separator).tolist()
        borders = sorted({0, *starts, len(tokens)})
        return [range(start, stop) for start, stop in pairwise(borders)]

    def reach(self, tokens: np.ndarray[Any, Any]) -> int:
        """Tokens of the longest text that a window may lie in."""
        return max(map(len, self.documents(tokens)), default=0) if self.by_document else len(tokens)

    def protocol(self, chosen: Protocol, tokens: np.ndarray[Any, Any]) -> Protocol:
        """The protocol under which this text is read."""
        return WithinDocuments(chosen.name, chosen, self.documents(tokens)) if self.by_document else chosen

    def count(self, tokens: np.ndarray[Any, Any], targets: Sequence[range]) -> int | None:
        """How many documents have a target; None where they cannot be told apart."""
        if self.separator is None:
            return None
        starts = [document.start for document in self.documents(tokens)]
        ends = ([one.start, one.stop - 1] for one in targets)
        found = np.searchsorted(starts, list(ends), side="right")
        return len({number for first, last in found.tolist() for number in range(first, last + 1)})
