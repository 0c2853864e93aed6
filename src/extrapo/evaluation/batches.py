"""Windows of a text in batches, read from the text when their turn comes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from extrapo.evaluation.protocols import ScoredWindow

#: Tokens in one forward pass of short windows.
BATCH_TOKENS = 4096


@dataclass(frozen=True)
class WindowBatch:
    """Windows of one size with equally many unscored predictions.

    Args:
        tokens: (N,) the text.
        windows: B of them.
        first: what stands in place of each window's first token, which is no target; None is that token itself.
    """

    tokens: np.ndarray[Any, Any]
    windows: Sequence[ScoredWindow]
    first: int | None = None

    @property
    def unscored(self) -> int:
        """Predictions at the beginning of each window that do not count."""
        return self.windows[0].unscored

    def load(self) -> Tensor:
        """(B, size + 1) int64: the windows' tokens, and the last target of each."""
        rows = [np.asarray(self.tokens[window.start : window.stop + 1], dtype=np.int64) for window in self.windows]
        tokens = torch.from_numpy(np.stack(rows))
        if self.first is not None:
            tokens[:, 0] = self.first
        return tokens

    def of_targets(self, of_tokens: np.ndarray[Any, Any]) -> Tensor:
        """(B, size - unscored) what an array has for each token, for the targets that count."""
        return torch.from_numpy(np.stack([of_tokens[window.first_target : window.stop + 1] for window in self.windows]))


def batch_windows(
    tokens: np.ndarray[Any, Any], windows: Sequence[ScoredWindow], first: int | None = None
) -> list[WindowBatch]:
    """The windows in batches of about BATCH_TOKENS tokens, one window at least; windows of a kind keep their order."""
    batches = []
    for (size, _), group in groupby(sorted(windows, key=_shape), key=_shape):
        alike, count = list(group), max(1, BATCH_TOKENS // size)
        batches += [WindowBatch(tokens, alike[i : i + count], first) for i in range(0, len(alike), count)]
    return batches


def _shape(window: ScoredWindow) -> tuple[int, int]:
    return window.size, window.unscored
