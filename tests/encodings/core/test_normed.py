"""Normalised queries and keys against the formula, and where the gains stand among a scheme's weights."""

from __future__ import annotations

import math

import pytest
import torch

from extrapo import encodings
from extrapo.encodings import Context, LayerSpec
from extrapo.encodings.core.encoding import encodings as registry
from extrapo.encodings.core.normed import NormedQK, normed, query_key_norms

SHAPE = {"heads": 2, "head_dim": 4, "dim": 8}


def test_formula() -> None:
    norm, _ = query_key_norms(LayerSpec(2, 4, 8))
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, -0.5, 0.25]))
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    got = normed(norm, x).tolist()
    for row, numbers in zip(got, x.tolist(), strict=True):
        size = math.sqrt(sum(a * a for a in numbers) / 4 + 1e-5)
        assert row == pytest.approx(
            [a / size * g for a, g in zip(numbers, norm.weight.tolist(), strict=True)], rel=1e-5
        )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_it_is_taken_in_the_wider_dtype_and_comes_back_in_its_own(dtype: torch.dtype) -> None:
    norm, _ = query_key_norms(LayerSpec(2, 4, 8))
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(1)).to(dtype)
    got = normed(norm, x)
    assert got.dtype == dtype
    expected = x.double() * (x.double().square().mean(-1, keepdim=True) + 1e-5).rsqrt()
    torch.testing.assert_close(got, expected.to(dtype), rtol=2 * torch.finfo(dtype).eps, atol=1e-7)


NORMED = [name for name in registry.names() if issubclass(registry.get(name), NormedQK)]


@pytest.mark.parametrize("name", NORMED)
def test_a_scheme_without_norms_leaves_q_and_k_as_they_are(name: str) -> None:
    q, k, v = torch.randn(3, 1, 2, 5, 4).unbind()
    x = torch.randn(1, 5, 8)
    for wanted in (False, True):
        layer = encodings.create(name, **SHAPE, qk_norm=wanted)
        transformed = layer.transform(q, k, v, x=x, context=Context.plain(x), state=None)
        assert (transformed.q is q, transformed.k is k, transformed.v is v) == (not wanted, not wanted, True)
        assert ("transform" in layer.besides_bias()) == wanted


def test_an_optimiser_finds_the_weights_of_a_checkpoint_in_their_order() -> None:
    """Its moments go by the order of the weights, not by name."""
    for name, options, order in (
        ("path", {"qk_norm": True}, ["w.0", "w.1", "conv", "beta", "beta", "q_norm", "k_norm"]),
        ("grape-a-key", {}, ["u", "q_norm", "k_norm", "omega"]),
        ("grape-ap", {}, ["q_norm", "k_norm", "p"]),
        ("grape-m-ctx", {}, ["log_theta", "omega", "omega", "q_norm", "k_norm"]),
    ):
        layer = encodings.create(name, **SHAPE, **options)
        assert [key.rsplit(".", 1)[0] for key, _ in layer.named_parameters()] == order, name
