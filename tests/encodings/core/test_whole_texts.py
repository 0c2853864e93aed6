"""What a back end may ask of a whole text without a look at its numbers, of every encoding."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from extrapo import encodings
from extrapo.encodings import Bias, Context, Elementwise
from extrapo.encodings.core.distance import DistanceBias

LENGTH = 9


def bias_of(name: str, shift: float | None = None) -> Bias:
    """Of a layer in float64, bound to its q and k; its tokens moved apart, the later ones the more, by `shift`."""
    torch.manual_seed(0)
    made = encodings.create(name, heads=2, head_dim=8, dim=16, train_length=16).double().eval()
    q, k, v = torch.randn(3, 1, 2, LENGTH, 8, dtype=torch.float64)
    x = torch.randn(1, LENGTH, 16, dtype=torch.float64)
    context = replace(Context.plain(x), tokens=torch.zeros(1, LENGTH, dtype=torch.int64), residual=x)
    if shift is not None:
        context = replace(context, index=context.index + shift * context.index.square())
    return made.encode(q, k, v, x=x, context=context).bias


@pytest.mark.parametrize("name", encodings.names())
def test_a_wide_formula_is_the_formula(name: str) -> None:
    """Of positions as they are kept, wherever they are measured from."""
    bias = bias_of(name)
    if not isinstance(bias, Elementwise) or (wide := bias.wide_formula()) is None:
        return
    logit, (queries, keys, *others) = wide
    score, far = torch.randn(1, 2, LENGTH, LENGTH, dtype=torch.float64), 100.0
    found = logit(score, (queries - far).unsqueeze(-1), (far - keys).unsqueeze(-2), *others)
    expected = bias.logit(score, *bias.factors(slice(0, LENGTH)))
    assert torch.allclose(seen(found), seen(expected), rtol=1e-9, atol=1e-9)


def seen(logits: Tensor) -> Tensor:
    """Those of earlier keys alone."""
    return logits.expand(1, 2, LENGTH, LENGTH).tril()


def test_some_have_one() -> None:
    for name in ("alibi", "k-cable", "cable-weighted", "sinks+kerple-log", "kerple-weight", "grape-a-key"):
        bias = bias_of(name)
        assert isinstance(bias, Elementwise)
        assert bias.wide_formula() is not None


@pytest.mark.parametrize("name", ["t5", "dynamic-bias", "sandwich", "kerple-log", "kerple-weight", "window+t5"])
def test_positions_that_are_counted_are_known_to_be(name: str) -> None:
    """Others in their place are not."""
    bias, apart = bias_of(name), bias_of(name, shift=1.0)
    assert isinstance(bias, Elementwise)
    assert isinstance(apart, Elementwise)
    assert bias.known_toeplitz()
    assert not apart.known_toeplitz()
    assert not apart.toeplitz()
    if isinstance(bias, DistanceBias):
        assert bias.consecutive()
        assert replace(bias, counted=None).consecutive()
        assert not replace(bias, keys=bias.keys + 1).known_toeplitz()
