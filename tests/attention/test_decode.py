"""One query against the plain formula: of keys in a cache, of any batch, in any precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from extrapo import encodings
from extrapo.attention import Verdict
from extrapo.attention.decode import NOTHING, Decode, attend_row
from extrapo.attention.reference import Reference
from extrapo.encodings import Encoding
from extrapo.encodings.core.encoding import Encoded

HEADS, HEAD_DIM, DIM, S = 2, 4, 8, 70

WINDOWED: list[tuple[str, dict[str, Any]]] = [
    ("window+k-cable", {"window": {"window": 9}}),
    ("sinks+alibi", {"sinks": {"window": 9, "sinks": 2}}),
    ("lm-infinite", {"window": 9, "sinks": 2}),
]
NAMES = ["nope", "alibi", "cable", "cable-weighted", "k-cable", "adaptive", "cope", "t5", "fire", "rope+k-cable"]
CASES = [*((name, {}) for name in NAMES), *WINDOWED]


def layer(name: str, options: dict[str, Any]) -> Encoding:
    torch.manual_seed(0)
    return encodings.create(name, heads=HEADS, head_dim=HEAD_DIM, dim=DIM, **options).eval()


def decoded(made: Encoding, q: Tensor, k: Tensor, v: Tensor, x: Tensor, *sizes: int) -> Encoded:
    """The last of some steps of decoding."""
    state, parts = None, [torch.split(t, sizes, dim=-2) for t in (q, k, v, x)]
    for step in zip(*parts, strict=True):
        encoded = made.encode(*step[:3], x=step[3], state=state)
        state = encoded.state
    return encoded


@torch.no_grad()
@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize(("dtype", "off"), [(torch.float64, 1e-6), (torch.float32, 2e-6), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("batch", [1, 3])
def test_equals_the_reference(name: str, options: dict[str, Any], dtype: torch.dtype, off: float, batch: int) -> None:
    """A prompt and two steps, of which the last is against the last row of the whole text in float64."""
    made = layer(name, options).to(dtype)
    x = torch.randn(batch, S, DIM, dtype=dtype)
    qkv = torch.randn(3, batch, HEADS, S, HEAD_DIM, dtype=dtype)
    q, k, v, bias, *_ = decoded(made, *qkv, x, S - 2, 1, 1)
    # In a cache with room the heads do not follow one another.
    assert not k.is_contiguous()
    assert Decode().serves(bias, q, k)
    found = Decode()(q, k, v, bias, scale=0.5)
    assert found.shape == (batch, HEADS, 1, HEAD_DIM)
    assert found.dtype == dtype
    whole = made.double().encode(*qkv.double(), x=x.double()).bias
    queries = torch.cat([torch.zeros(batch, HEADS, S - 1, HEAD_DIM), q], dim=2).double()
    expected = Reference()(queries, k.double(), v.double(), whole, scale=0.5)[:, :, -1:]
    torch.testing.assert_close(found.double(), expected, rtol=off, atol=off)


@torch.no_grad()
@pytest.mark.parametrize(("name", "options"), [*CASES, ("path", {}), ("stick-breaking+alibi", {})])
def test_step_by_step_it_is_the_whole_text(name: str, options: dict[str, Any]) -> None:
    """What is kept from step to step does not wear out: every row of 70, in float64."""
    made = layer(name, options).double()
    x, qkv = torch.randn(2, S, DIM).double(), torch.randn(3, 2, HEADS, S, HEAD_DIM).double()
    q, k, v, bias, _, output = made.encode(*qkv, x=x)
    expected, state = output(Reference()(q, k, v, bias, scale=0.5)), None
    for t in range(S):
        now = slice(t, t + 1)
        q, k, v, bias, state, output = made.encode(*qkv[:, :, :, now], x=x[:, now], state=state)
        got = output(Decode()(q, k, v, bias, scale=0.5))
        torch.testing.assert_close(got, expected[:, :, now], rtol=1e-9, atol=1e-9)


def test_it_takes_one_query() -> None:
    q = torch.randn(1, HEADS, 2, HEAD_DIM)
    bias = layer("alibi", {}).encode(q, q, q, x=torch.randn(1, 2, DIM)).bias
    assert Decode().serves(bias, q, q) == Verdict(False, "it takes one query at a time")


@torch.no_grad()
@pytest.mark.parametrize("temperature", [None, torch.full((1, HEADS, 1, S), 0.5)])
def test_weights_that_count_for_nothing_are_zero(temperature: Tensor | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A steep bias leaves none so small that a CPU slows down over it; what comes out is as without."""
    q, (k, v) = torch.randn(1, HEADS, 1, HEAD_DIM), torch.randn(2, 1, HEADS, S, HEAD_DIM)
    added = torch.linspace(-110.0, 0.0, S).expand(1, HEADS, 1, S)
    weights, product = [], torch.bmm

    def bmm(a: Tensor, b: Tensor) -> Tensor:
        weights.append(a)
        return product(a, b)

    monkeypatch.setattr(torch, "bmm", bmm)
    found = attend_row(q, k, v, temperature, added, 0.5)
    assert (weights[-1] == 0).any()
    assert ((weights[-1] == 0) | (weights[-1] > NOTHING)).all()
    scores = 0.5 * (1.0 if temperature is None else temperature.double()) * (q.double() @ k.double().mT)
    torch.testing.assert_close(found.double(), (scores + added).softmax(-1) @ v.double(), rtol=2e-6, atol=2e-6)


@torch.no_grad()
def test_what_is_no_number_shows() -> None:
    """It is not taken for a weight that counts for nothing."""
    q, k = torch.full((1, HEADS, 1, HEAD_DIM), float("nan")), torch.ones(1, HEADS, S, HEAD_DIM)
    assert attend_row(q, k, k, None, torch.zeros(1, 1, 1, S), 0.5).isnan().all()
