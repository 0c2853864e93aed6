"""Looks as a training records them, drawn here."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from extrapo.evaluation.look import LayerLook


@pytest.fixture(scope="session")
def drawn() -> Callable[..., LayerLook]:
    """One layer with a clock of random increments, or of the index."""

    def make(heads: int = 2, length: int = 16, seed: int = 0, *, contextual: bool = True) -> LayerLook:
        random = np.random.default_rng(seed)
        increments = random.gamma(2.0, 0.4, (heads, length)) if contextual else np.ones((heads, length))
        s = increments.cumsum(-1)
        later = np.triu(np.ones((length, length), dtype=bool), 1)
        bias = np.where(later, -np.inf, -np.log1p((s[:, :, None] - s[:, None]) ** 2))
        logits = bias + random.normal(0, 1, bias.shape)
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        return LayerLook(bias.astype(np.float32), weights.astype(np.float32), s if contextual else None)

    return make
