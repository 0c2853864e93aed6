"""BAM's prior and its scaled softmax against the authors' formula, pair by pair."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch

from extrapo.encodings import Context, LayerSpec
from extrapo.encodings.bam import BAM
from extrapo.kernels import alibi_slopes

H, D, T = 2, 4, 8
SCALE = 1 / math.sqrt(D)


def layer(**options: object) -> BAM:
    """With values that are not those of the start."""
    torch.manual_seed(0)
    made = BAM(LayerSpec(H, D, H * D), **options).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
    return made


def prior(bam: BAM, h: int, i: int, j: int) -> torch.Tensor:
    a, r, location = (value.flatten()[h] for value in bam.kernel.values())
    mu = location.exp() - (-location).exp()
    return -((abs((j - i) - mu) + 1e-5) ** r) * a.exp()


@pytest.mark.parametrize("ssmax", ["off", "inside", "outside"])
@pytest.mark.parametrize("learn_location", [False, True])
def test_logits(ssmax: Literal["off", "inside", "outside"], learn_location: bool) -> None:
    bam = layer(ssmax=ssmax, learn_location=learn_location, shape="linspace")
    generator = torch.Generator().manual_seed(1)
    q, k = (torch.randn(1, H, T, D, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(2))
    x = torch.zeros(1, T, H * D, dtype=torch.float64)
    context = Context.plain(x)
    transformed = bam.transform(q, k, k, x=x, context=context, state=None)
    bias = bam.bias(x, None, context)
    assert bias.additive
    logits = bias.score_rows(transformed.q, transformed.k, SCALE, slice(0, T))[0]
    receive = torch.randn(H, T, T, generator=generator, dtype=torch.float64).tril()
    weighed = torch.zeros((), dtype=torch.float64)
    for h in range(H):
        for i in range(T):
            sharpness = torch.ones(()) if bam.seq_scale is None else bam.seq_scale[h, 0] * math.log(i + 1)
            for j in range(i + 1):
                content, log_prior = SCALE * q[0, h, i] @ k[0, h, j], prior(bam, h, i, j)
                expected = content * sharpness + log_prior * (sharpness if ssmax == "inside" else 1.0)
                torch.testing.assert_close(logits[h, i, j], expected, check_dtype=False)
                weighed = weighed + receive[h, i, j] * expected
    leaves = [q, k, *bam.parameters()]
    for ours, theirs in zip(
        torch.autograd.grad((logits * receive).sum(), leaves), torch.autograd.grad(weighed, leaves), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_starts_as_alibi() -> None:
    dense = BAM(LayerSpec(H, D, H * D)).double().bias(torch.zeros(1, T, H * D, dtype=torch.float64)).dense()[0]
    for h, slope in enumerate(alibi_slopes(H)):
        for i in range(T):
            torch.testing.assert_close(dense[h, i, : i + 1], -slope * torch.arange(i, -1.0, -1.0), rtol=0, atol=1e-5)


def test_shapes_at_the_start() -> None:
    torch.manual_seed(0)
    found = {
        name: BAM(LayerSpec(5, D, 5 * D), shape=name).kernel.values()[1].flatten()
        for name in ("one", "linspace", "normal")
    }
    assert found["one"].tolist() == [1.0] * 5
    torch.testing.assert_close(found["linspace"].detach(), torch.linspace(0, 1, 5))
    assert found["normal"].min() < 0 < found["normal"].max()


def test_the_location_is_a_parameter_only_when_it_is_trained() -> None:
    frozen, trained = (BAM(LayerSpec(H, D, H * D), learn_location=learn) for learn in (False, True))
    assert sum(p.numel() for p in frozen.parameters()) == 2 * H
    assert sum(p.numel() for p in trained.parameters()) == 3 * H


def test_rows_go_on_from_the_past_while_decoding() -> None:
    bam, x = layer(ssmax="inside"), torch.zeros(1, T, H * D, dtype=torch.float64)
    whole = bam.bias(x).added(slice(5, T))
    past = bam.bias(x[:, :5])
    torch.testing.assert_close(bam.bias(x[:, 5:], past).added(slice(0, 3)), whole)
