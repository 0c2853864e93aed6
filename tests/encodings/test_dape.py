"""DAPE and DAPE v2 against plain loops over pairs and rows, with every host's gradients."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from extrapo.attention import attend
from extrapo.encodings import Encoding, LayerSpec, dape
from extrapo.errors import UserError

HEADS, D, T = 2, 4, 7
SCALE = 1 / math.sqrt(D)
SHAPE = {"heads": HEADS, "head_dim": D, "dim": HEADS * D}


def layer_of(kind: type[dape.Network], **options: Any) -> dape.Network:
    torch.manual_seed(1)
    layer = kind(LayerSpec(**SHAPE), units=5, **options).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return layer


def draws(length: int = T) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, HEADS, length, D, generator=generator, dtype=torch.float64) for _ in range(3))
    return q, k, v, torch.randn(2, length, HEADS * D, generator=generator, dtype=torch.float64)


def read(layer: dape.Network, q: Tensor, k: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """z + B (B, H, T, T), and what the network reads (B, C, T, T), later keys at 0."""
    z = SCALE * q @ k.transpose(-1, -2)
    if layer.host is None:
        return z, z.tril()
    bias = layer.host.bias(x).added(slice(0, x.size(1))).expand_as(z)
    return z + bias, torch.cat([z, bias], dim=1).tril()


def along(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(C, T) -> (M, T): a map of three neighbouring columns, those that are not there being 0."""
    columns = []
    for j in range(x.size(-1)):
        total = bias
        for tap, at in enumerate((j - 1, j, j + 1)):
            if 0 <= at < x.size(-1):
                total = total + weight[:, :, 0, tap] @ x[:, at]
        columns.append(total)
    return torch.stack(columns, dim=-1)


def weights(layer: dape.Network) -> list[Tensor]:
    assert layer.first.bias is not None
    return [layer.first.weight, layer.first.bias, layer.second.weight]


def plain_pairs(layer: dape.Network, q: Tensor, k: Tensor, x: Tensor) -> Tensor:
    """Logits of `dape`: a network of two layers for each pair."""
    logits, features = read(layer, q, k, x)
    w1, b1, w2 = weights(layer)
    out = torch.zeros_like(logits)
    for b in range(logits.size(0)):
        for i in range(logits.size(2)):
            for j in range(i + 1):
                hidden = F.leaky_relu(w1[:, :, 0, 0] @ features[b, :, i, j] + b1, 0.01)
                out[b, :, i, j] = logits[b, :, i, j] + w2[:, :, 0, 0] @ hidden
    return out


def plain_rows(layer: dape.Network, q: Tensor, k: Tensor, x: Tensor, *, masked: bool) -> Tensor:
    """Logits of `dape-v2`, a row at a time; unmasked, they are those of the authors' code."""
    logits, features = read(layer, q, k, x)
    w1, b1, w2 = weights(layer)
    rows = []
    for b in range(logits.size(0)):
        for i in range(logits.size(2)):
            hidden = F.leaky_relu(along(features[b, :, i], w1, b1), 0.01)
            if masked:
                hidden = torch.where(torch.arange(hidden.size(-1)) <= i, hidden, 0.0)
            rows.append(logits[b, :, i] + along(hidden, w2, torch.zeros(w2.size(0), dtype=w2.dtype)))
    return torch.stack(rows).unflatten(0, logits.shape[::2][:2]).transpose(1, 2)


def logits_of(layer: dape.Network, q: Tensor, k: Tensor, x: Tensor) -> Tensor:
    return layer.bias(x).bind(q, k).score_rows(q, k, SCALE, slice(0, x.size(1)))


def same(got: Tensor, expected: Tensor, layer: Encoding, inputs: list[Tensor]) -> None:
    """Values and gradients of everything that is trained, below the diagonal."""
    torch.testing.assert_close(got.tril(), expected.tril(), rtol=0, atol=1e-12)
    receive = torch.randn_like(got).tril()
    leaves = [*inputs, *layer.parameters()]
    found, wanted = (torch.autograd.grad((t * receive).sum(), leaves, allow_unused=True) for t in (got, expected))
    for one, other in zip(found, wanted, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("host", ["kerple-log", "alibi", "cable", None])
@pytest.mark.parametrize("kind", [dape.DAPE, dape.DAPEv2])
def test_formula(kind: type[dape.Network], host: str | None) -> None:
    layer = layer_of(kind, host=host)
    q, k, _, x = (t.requires_grad_() for t in draws())
    pairs = kind is dape.DAPE
    expected = plain_pairs(layer, q, k, x) if pairs else plain_rows(layer, q, k, x, masked=True)
    same(logits_of(layer, q, k, x), expected, layer, [q, k, x])


def test_an_open_hidden_map_is_the_authors_in_all_rows_but_the_last() -> None:
    """The last row of their pass misses the hidden column that the same row has in a longer text."""
    layer = layer_of(dape.DAPEv2, hidden="open")
    q, k, _, x = draws(T + 1)
    theirs = plain_rows(layer, q, k, x, masked=False)
    shorter = plain_rows(layer, q[:, :, :T], k[:, :, :T], x[:, :T], masked=False)
    assert (theirs[:, :, T - 1, T - 1] - shorter[:, :, T - 1, T - 1]).abs().max() > 1e-3
    ours = logits_of(layer, q[:, :, :T], k[:, :, :T], x[:, :T])
    torch.testing.assert_close(ours.tril(), theirs[:, :, :T, :T].tril(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("hidden", ["zero", "open"])
def test_a_row_does_not_depend_on_the_length_of_the_text(hidden: dape.Hidden) -> None:
    layer = layer_of(dape.DAPEv2, hidden=hidden, host="cable")
    q, k, v, x = draws(40)
    whole = attend(q, k, v, layer.bias(x), scale=SCALE)
    for stop in (1, 16, 17, 39):
        part = attend(q[:, :, :stop], k[:, :, :stop], v[:, :, :stop], layer.bias(x[:, :stop]), scale=SCALE)
        torch.testing.assert_close(part, whole[:, :, :stop], rtol=0, atol=1e-12)


def test_parameters() -> None:
    def count(layer: Encoding) -> int:
        return sum(p.numel() for p in layer.parameters())

    spec = LayerSpec(heads=8, head_dim=4, dim=32)
    assert count(dape.DAPE(spec, host="alibi")) == 16 * 32 + 32 + 32 * 8
    assert count(dape.DAPE(spec, host="none")) == 8 * 32 + 32 + 32 * 8
    assert count(dape.DAPEv2(spec, host="alibi")) == 3 * 16 * 32 + 32 + 3 * 32 * 8
    assert count(dape.DAPE(spec)) == count(dape.DAPE(spec, host="alibi")) + 2 * 8


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"host": "rope"}, "'rope' adds no bias"),
        ({"host": "adaptive"}, "'adaptive' adds no bias"),
        ({"host": "alibii"}, "did you mean 'alibi'"),
        ({"host": "alibi", "host_options": {"slope": 1}}, "has no option 'slope'"),
        ({"units": 0}, "must be at least 1, not 0"),
    ],
)
def test_mistakes(options: dict[str, Any], cause: str) -> None:
    with pytest.raises(UserError, match=cause):
        dape.DAPE(LayerSpec(**SHAPE), **options)


def test_the_hosts_own_options() -> None:
    layer = dape.DAPE(LayerSpec(**SHAPE), host="cable", host_options={"kernel": "cauchy-log"})
    x = torch.randn(1, T, HEADS * D)
    z = layer.host.bias(x).distance(slice(0, T))  # type: ignore[union-attr]
    torch.testing.assert_close(layer.bias(x).added(slice(0, T)), -torch.log1p(z * z))
