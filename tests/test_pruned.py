"""Pruned: the bound holds against float64, and far keys are not read."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from extrapo import GPT, GPTConfig, encodings
from extrapo.attention.reference import Reference
from extrapo.encodings import Bias
from extrapo.errors import UserError
from extrapo.pruned import can_prune, pruned

HEADS, HEAD_DIM, DIM = 2, 4, 8
SCALE = 1 / math.sqrt(HEAD_DIM)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def bias(name: str, length: int, past: int = 0) -> Bias:
    torch.manual_seed(0)
    made = encodings.create(name, heads=HEADS, head_dim=HEAD_DIM, dim=DIM).double()
    x = draw(1, past + length, DIM)
    with torch.no_grad():
        return made.bias(x[:, past:], made.bias(x[:, :past]) if past else None)


@pytest.mark.parametrize("name", ["alibi", "cable", "k-cable", "kerple-log", "kerple-power"])
@given(tolerance=st.floats(1e-12, 0.5), past=st.sampled_from([0, 37]), seed=st.integers(0, 99))
@settings(max_examples=8, deadline=None)
def test_the_error_is_bounded(name: str, tolerance: float, past: int, seed: int) -> None:
    q = draw(1, HEADS, 600, HEAD_DIM, seed=seed)
    k, v = (draw(1, HEADS, 600 + past, HEAD_DIM, seed=seed + s) for s in (1, 2))
    made = bias(name, 600, past)
    off = (pruned(q, k, v, made, SCALE, tolerance) - Reference()(q, k, v, made, scale=SCALE)).abs().max()
    assert off <= 2 * tolerance * v.abs().max() + 1e-12


def test_far_keys_are_not_read() -> None:
    """NaN in the values beyond the reach of the bias goes unnoticed; the last query of 2,000 sees a few hundred."""
    q, k, v = (draw(1, HEADS, 2000, HEAD_DIM, seed=seed) for seed in (1, 2, 3))
    v[:, :, :1000] = float("nan")
    assert pruned(q, k, v, bias("cable", 2000), SCALE, 1e-6)[:, :, -500:].isfinite().all()


def test_each_head_reaches_as_far_as_its_slope() -> None:
    """ALiBi's first head forgets after a few hundred keys, the second one, 16 times as flat, after thousands."""
    q, k, v = (draw(1, HEADS, 3000, HEAD_DIM, seed=seed) for seed in (1, 2, 3))
    v[:, :, :1500] = float("nan")
    last = pruned(q, k, v, bias("alibi", 3000), SCALE, 1e-6)[:, :, -500:]
    assert last[:, 0].isfinite().all()
    assert last[:, 1].isnan().all()


def test_who_can_be_pruned() -> None:
    assert not can_prune(bias("cable-weighted", 5))
    assert not can_prune(bias("nope", 5))
    assert not can_prune(bias("cope", 5))
    assert can_prune(bias("k-cable", 5))


def test_a_model_skips_in_evaluation_alone() -> None:
    torch.manual_seed(0)
    config = GPTConfig(encoding="cable", layers=2, heads=2, dim=16, vocab_size=31)
    exact, near = GPT(config).eval(), GPT(config.model_copy(update={"skip": 1e-7})).eval()
    near.load_state_dict(exact.state_dict())
    tokens = torch.randint(0, 31, (1, 700))
    with torch.no_grad():
        off = (near(tokens) - exact(tokens)).abs().max()
    assert 0 < off < 1e-4
    near.train()(tokens).sum().backward()


def test_refusals() -> None:
    q = draw(1, HEADS, 5, HEAD_DIM)
    with pytest.raises(UserError, match="falls with distance"):
        pruned(q, q, q, bias("nope", 5), SCALE, 1e-6)
    with pytest.raises(UserError, match="no backward pass"):
        pruned(q.requires_grad_(), q, q, bias("cable", 5), SCALE, 1e-6)
    config = GPTConfig(encoding="cable", layers=1, heads=2, dim=16, vocab_size=31, skip=1e-7, impl="tiles")
    with pytest.raises(UserError, match=r"`skip` is a way of its own, beside impl 'tiles'"):
        GPT(config).eval()(torch.zeros(1, 5, dtype=torch.long))
