"""GRAPE's additive forms against their formulas in loops."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from extrapo import encodings
from extrapo.attention import attend
from extrapo.encodings import Bias, Context
from extrapo.errors import UserError
from extrapo.kernels import alibi_slopes

HEADS, D, T = 2, 4, 7
SHAPE = {"heads": HEADS, "head_dim": D, "dim": HEADS * D}
GATED = {"grape-a-key": (True, False), "grape-a-query": (False, True), "grape-a-qk": (True, True)}


def draws(length: int = T) -> tuple[torch.Tensor, ...]:
    """x (1, T, D) and q, k, v (1, H, T, d)."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, length, HEADS * D, generator=generator, dtype=torch.float64)
    return x, *torch.randn(3, 1, HEADS, length, D, generator=generator, dtype=torch.float64)


def create(name: str, **options: Any) -> encodings.Encoding:
    torch.manual_seed(0)
    layer = encodings.create(name, **SHAPE, **options).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    return layer


def given(layer: encodings.Encoding, context: Context | None = None) -> Bias:
    x, q, k, v = draws()
    transformed = layer.transform(q, k, v, x=x, context=context or Context.plain(x), state=None)
    return layer.bias(x, None, context).bind(transformed.q, transformed.k)


def softplus(z: float) -> float:
    return math.log(1 + math.exp(z))


def normed(vector: torch.Tensor, gain: torch.Tensor | float) -> torch.Tensor:
    return vector / math.sqrt(float(vector.square().mean()) + 1e-5) * gain


@pytest.mark.parametrize("qk_norm", [True, False])
@pytest.mark.parametrize("name", GATED)
def test_formula_of_the_gated_slopes(name: str, qk_norm: bool) -> None:
    layer = create(name, qk_norm=qk_norm)
    weights = {name: value.detach() for name, value in layer.named_parameters()}
    _, q, k, _ = draws()
    got = given(layer).added(slice(0, T)).detach()
    by_key, by_query = GATED[name]
    for h in range(HEADS):
        slope = softplus(float(weights["omega.raw"][h])) * alibi_slopes(HEADS)[h]
        for i in range(T):
            for j in range(i + 1):
                gate = 0.0
                if by_key:
                    key = normed(k[0, h, j], weights["k_norm.weight"]) if qk_norm else k[0, h, j]
                    gate += softplus(float(weights["u"][h] @ key / weights["u"][h].norm()) / 2)
                if by_query:
                    query = normed(q[0, h, i], weights["q_norm.weight"]) if qk_norm else q[0, h, i]
                    gate += softplus(float(weights["v"][h] @ query / weights["v"][h].norm()) / 2)
                assert float(got[0, h, i, j]) == pytest.approx(-(i - j) * slope * gate, abs=1e-10)


def test_it_starts_at_the_slopes_of_alibi() -> None:
    layer = encodings.create("grape-a-key", **SHAPE)
    bias = layer.bias(draws()[0].float())
    torch.testing.assert_close(bias.slopes.flatten(), torch.tensor(alibi_slopes(HEADS)))


@pytest.mark.parametrize(("name", "rank"), [("grape-a-key", 2), ("grape-a-query", 1), ("grape-a-qk", 3)])
def test_columns(name: str, rank: int) -> None:
    bias = given(create(name))
    u, w = bias.low_rank()
    assert u.shape == w.shape == (1, HEADS, T, rank)
    product, tile = (m.detach().tril() for m in (u @ w.transpose(-1, -2), bias.added(slice(0, T))))
    # Equal up to a term of the row.
    term = (product - tile)[..., :1].expand_as(tile).tril()
    torch.testing.assert_close(product - tile, term, rtol=0, atol=1e-12)


def test_distances_keep_their_digits_far_into_a_text() -> None:
    layer = encodings.create("grape-a-qk", **SHAPE, qk_norm=False)
    x, q, k, v = draws()
    far = Context(1e6 + torch.arange(float(T), dtype=torch.float64).view(1, 1, T))
    near = layer.bias(x.float()).bind(q.float(), k.float())
    bias = layer.bias(x.float(), None, far).bind(q.float(), k.float())
    assert torch.equal(bias.added(slice(0, T)).tril(), near.added(slice(0, T)).tril())
    q, k, v = (t.float() for t in (q, k, v))
    got, expected = (attend(q, k, v, b, scale=0.5, impl=impl) for b, impl in ((bias, "fold"), (near, "reference")))
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("name", GATED)
def test_gates_that_are_not_read_yet_read_the_rows_that_they_are_given(name: str) -> None:
    """The same logits with and without `bind`, block by block."""
    layer = create(name)
    x, q, k, _ = draws()
    bias = layer.bias(x)
    whole = bias.bind(q, k).score_rows(q, k, 0.5, slice(0, T))
    for rows in (slice(0, T), slice(2, 5), slice(T - 1, T)):
        got = bias.score_rows(q[:, :, rows], k[:, :, : rows.stop], 0.5, rows)
        expected = whole[:, :, rows, : rows.stop]
        torch.testing.assert_close(got.tril(rows.start), expected.tril(rows.start), rtol=0, atol=1e-12)


def test_gates_of_another_width() -> None:
    x, q, *_ = draws()
    with pytest.raises(UserError, match="read q and k of width 4; another scheme made it 8"):
        create("grape-a-key").bias(x).bind(torch.cat([q, q], -1), torch.cat([q, q], -1))


@pytest.mark.parametrize("p_dim", [None, 2])
def test_formula_of_the_path_integral(p_dim: int | None) -> None:
    layer = create("grape-ap", p_dim=p_dim)
    x, *_ = draws()
    width = p_dim or D
    p = (x[0] @ layer.p.weight.T).detach()
    got = layer.bias(x).added(slice(0, T)).detach()
    for h in range(HEADS):
        own = p[:, h * width : (h + 1) * width]
        turned = []
        for t in range(T):
            unit = own[t] / math.sqrt(float(own[t].square().mean()))
            plane = torch.complex(unit[: width // 2], unit[width // 2 :]) * complex(math.cos(t), -math.sin(t))
            turned.append(torch.cat([plane.real, plane.imag]))
        for i in range(T):
            for j in range(i + 1):
                logits = [float(own[i] @ turned[m]) / width for m in range(j + 1, i + 1)]
                expected = -alibi_slopes(HEADS)[h] * sum(softplus(-z) for z in logits)
                assert float(got[0, h, i, j]) == pytest.approx(expected, abs=1e-10)


def test_the_path_integral_goes_on_while_decoding() -> None:
    layer = create("grape-ap")
    x, *_ = draws()
    whole = layer.bias(x).added(slice(0, T))
    later = layer.bias(x[:, 3:], layer.bias(x[:, :3]))
    torch.testing.assert_close(later.added(slice(0, T - 3)).tril(3), whole[:, :, 3:].tril(3), rtol=0, atol=1e-12)


def test_a_path_integral_of_odd_width() -> None:
    with pytest.raises(UserError, match="p_dim must be even, not 3"):
        encodings.create("grape-ap", **SHAPE, p_dim=3)


@pytest.mark.parametrize("name", ["grape-a-key", "grape-ap"])
def test_q_and_k_are_normalised_with_a_gain(name: str) -> None:
    layer = create(name)
    x, q, k, v = draws()
    transformed = layer.transform(q, k, v, x=x, context=Context.plain(x), state=None)
    for got, plain, norm in ((transformed.q, q, layer.q_norm), (transformed.k, k, layer.k_norm)):
        expected = torch.stack([normed(row, norm.weight) for row in plain[0, 1]])
        torch.testing.assert_close(got[0, 1], expected)
    plain = create(name, qk_norm=False).transform(q, k, v, x=x, context=Context.plain(x), state=None)
    assert plain.q is q
    assert plain.k is k


def test_under_autocast_the_norm_does_not_widen_q_and_k() -> None:
    # Attention would take them for float32, fold the positions, and lose them in bfloat16.
    layer = encodings.create("grape-a-qk", **SHAPE)
    x, q, k, v = (t.bfloat16() for t in draws())
    with torch.autocast("cpu", torch.bfloat16):
        transformed = layer.transform(q, k, v, x=x, context=Context.plain(x), state=None)
    assert transformed.q.dtype == transformed.k.dtype == torch.bfloat16
