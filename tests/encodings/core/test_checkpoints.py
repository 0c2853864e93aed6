"""Weights that a module has no more are left out, and no others."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from extrapo.encodings.core.checkpoints import forget


class Today(nn.Module):
    """Had a module `old` once, and has `older`."""

    def __init__(self) -> None:
        super().__init__()
        self.older = nn.Linear(2, 2)
        self.register_load_state_dict_pre_hook(partial(forget, "old."))  # type: ignore[no-untyped-call]


def test_what_is_forgotten() -> None:
    model = nn.Sequential(Today(), nn.Linear(2, 2))
    state = {key: torch.randn_like(weight) for key, weight in model.state_dict().items()}
    saved = state | {"0.old.weight": torch.zeros(3), "0.old.bias": torch.zeros(1)}
    model.load_state_dict(saved)
    assert all(torch.equal(model.state_dict()[key], weight) for key, weight in state.items())
    with pytest.raises(RuntimeError, match=r"Unexpected key.*1\.old"):
        model.load_state_dict(saved | {"1.old.weight": torch.zeros(3)})
