"""Biases made of another one: what they take over from it, and what they change."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from extrapo import encodings
from extrapo.encodings import Bias, Elementwise, NoBias
from extrapo.encodings.core.hosted import HostedRows, Limited, LimitedRows, limited
from extrapo.encodings.core.visibility import Visibility, hidden

SHAPE = {"heads": 2, "head_dim": 4, "dim": 8}
T = 7
ROWS = slice(2, 5)


@dataclass(frozen=True)
class Halved(HostedRows):
    """The weights of its host, halved."""

    def mix(self, logits: Tensor, v: Tensor, rows: slice) -> Tensor:
        return 0.5 * self.host.mix(logits, v, rows)


def bias_of(name: str) -> Bias:
    torch.manual_seed(0)
    layer = encodings.create(name, **SHAPE).double()
    return layer.bias(torch.randn(1, T, 8, dtype=torch.float64))


def draw() -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = torch.randn(3, 1, 2, T, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).unbind()
    return q, k, v


@pytest.mark.parametrize("name", ["nope", "alibi", "k-cable", "kerple-weight", "path", "stick-breaking", "sinks+alibi"])
def test_rows_are_those_of_the_host(name: str) -> None:
    host = bias_of(name)
    q, k, v = draw()
    whole, inner = Halved(host).bind(q, k), host.bind(q, k)
    assert isinstance(whole, Halved)
    assert not whole.additive
    assert whole.shape == inner.shape
    assert whole.visibility() == inner.visibility()
    past = slice(0, ROWS.stop)
    logits = whole.score_rows(q[:, :, ROWS], k[:, :, past], 0.3, ROWS)
    assert torch.equal(logits, inner.score_rows(q[:, :, ROWS], k[:, :, past], 0.3, ROWS))
    assert torch.equal(whole.added(ROWS), inner.added(ROWS))
    assert torch.equal(Halved(host).rewrite_keys(k), host.rewrite_keys(k))
    seen = logits.masked_fill(hidden(3, 5, None, q.device), float("-inf"))
    torch.testing.assert_close(whole.mix(seen, v[:, :, past], ROWS), inner.mix(seen, v[:, :, past], ROWS) / 2)


@pytest.mark.parametrize("name", ["nope", "alibi", "k-cable", "kerple-weight", "path", "stick-breaking", "t5"])
def test_a_limit_changes_what_is_seen_and_nothing_else(name: str) -> None:
    host, limit = bias_of(name), Visibility(2, 1)
    bias = limited(host, limit)
    q, k, _ = draw()
    assert isinstance(bias, Limited if isinstance(host, Elementwise) else LimitedRows)
    assert bias.visibility() == limit
    assert bias.additive == host.additive
    assert bias.shape == host.shape
    bound, inner = bias.bind(q, k), host.bind(q, k)
    rows = slice(0, T)
    assert torch.equal(bound.score_rows(q, k, 0.3, rows), inner.score_rows(q, k, 0.3, rows))
    unseen = hidden(T, T, limit, q.device)
    dense = bias.dense()
    assert torch.equal(dense, host.dense().masked_fill(unseen, float("-inf")))
    if isinstance(bias, Elementwise):
        assert isinstance(host, Elementwise)
        assert (bias.logit, bias.pointwise(), bias.toeplitz()) == (host.logit, host.pointwise(), host.toeplitz())
        assert bias.low_rank() is None, "a fused kernel would not know the limit"
        assert bias.whole_text().visibility() == limit


def test_a_limit_within_a_limit() -> None:
    nothing = NoBias(2, T, T, torch.device("cpu"))
    bias = limited(limited(nothing, Visibility(3, 2)), Visibility(4, 1))
    seen = [[j <= i and (i - j < 3 or j < 2) and (i - j < 4 or j < 1) for j in range(T)] for i in range(T)]
    assert torch.equal(bias.dense()[0, 0].isfinite(), torch.tensor(seen))


@pytest.mark.parametrize("name", ["alibi", "path"])
def test_a_limited_bias_is_rebuilt_from_its_tensors(name: str) -> None:
    q, k, _ = draw()
    bias = limited(bias_of(name).bind(q, k), Visibility(2))
    again = bias.rebuilt(list(bias.tensors()))
    assert again.visibility() == Visibility(2)
    rows = slice(0, T)
    assert torch.equal(again.score_rows(q, k, 0.3, rows), bias.score_rows(q, k, 0.3, rows))
