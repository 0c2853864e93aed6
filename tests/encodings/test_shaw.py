"""Shaw's vectors per distance against the paper's formula, pair by pair, in values and gradients."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from extrapo.attention import attend
from extrapo.encodings import Context, LayerSpec
from extrapo.encodings.shaw import Shaw
from extrapo.errors import UserError

H, D = 2, 3
SCALE = 1 / math.sqrt(D)


def plain(layer: Shaw, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, positions: list[int]) -> torch.Tensor:
    """softmax_j(s q_i.(k_j + a^K_n)) (v_j + a^V_n), one pair at a time."""
    last = layer.key_table.size(0) - 1
    out = torch.zeros_like(v)
    for h in range(H):
        for i in range(len(positions)):
            steps = [min(positions[i] - positions[j], last) for j in range(i + 1)]
            logits = [SCALE * q[0, h, i] @ (k[0, h, j] + layer.key_table[n]) for j, n in enumerate(steps)]
            weights = torch.stack(logits).softmax(0)
            for j, n in enumerate(steps):
                value = v[0, h, j] if layer.value_table is None else v[0, h, j] + layer.value_table[n]
                out[0, h, i] = out[0, h, i] + weights[j] * value
    return out


@given(
    gaps=st.lists(st.integers(1, 4), min_size=1, max_size=7),
    clip=st.integers(1, 12),
    values=st.booleans(),
)
@settings(deadline=None, max_examples=15)
def test_formula(gaps: list[int], clip: int, values: bool) -> None:
    positions = [sum(gaps[: i + 1]) for i in range(len(gaps))]
    torch.manual_seed(0)
    layer = Shaw(LayerSpec(H, D, H * D), clip=clip, values=values).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    q, k, v = (torch.randn(1, H, len(gaps), D, dtype=torch.float64, requires_grad=True) for _ in range(3))
    receive = torch.randn(1, H, len(gaps), D, dtype=torch.float64)
    x = torch.zeros(1, len(gaps), H * D, dtype=torch.float64)
    context = Context(torch.tensor(positions, dtype=torch.float64).view(1, 1, -1))
    got = attend(q, k, v, layer.bias(x, None, context), scale=SCALE, impl="reference")
    expected = plain(layer, q, k, v, positions)
    torch.testing.assert_close(got, expected)
    leaves = [q, k, v, *layer.parameters()]
    for ours, theirs in zip(
        torch.autograd.grad((got * receive).sum(), leaves),
        torch.autograd.grad((expected * receive).sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_values_wider_than_a_head_keep_their_extra_columns() -> None:
    layer = Shaw(LayerSpec(H, D, H * D), clip=2, values=True).double()
    q, k = torch.randn(2, 1, H, 5, D, dtype=torch.float64)
    v = torch.randn(1, H, 5, D + 2, dtype=torch.float64)
    bias = layer.bias(torch.zeros(1, 5, H * D, dtype=torch.float64))
    wide, narrow = (
        attend(q, k, v, bias, scale=SCALE, impl="reference"),
        attend(q, k, v[..., :D], bias, scale=SCALE, impl="reference"),
    )
    torch.testing.assert_close(wide[..., :D], narrow)
    weights = (
        bias.score_rows(q, k, SCALE, slice(0, 5)).masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf).softmax(-1)
    )
    torch.testing.assert_close(wide[..., D:], weights @ v[..., D:])


def test_tables_belong_to_all_heads() -> None:
    layer = Shaw(LayerSpec(4, 8, 32), clip=16, values=True)
    assert [tuple(p.shape) for p in layer.parameters()] == [(17, 8), (17, 8)]


def test_a_clip_of_nothing() -> None:
    with pytest.raises(UserError, match="clip must be at least 1"):
        Shaw(LayerSpec(H, D, H * D), clip=0)
