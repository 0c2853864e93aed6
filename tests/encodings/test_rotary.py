from __future__ import annotations

import pytest
import torch

from extrapo import encodings
from extrapo.encodings import Encoding
from extrapo.errors import UserError


def turned(layer: Encoding, q: torch.Tensor, k: torch.Tensor, start: int = 0) -> torch.Tensor:
    x = torch.zeros(1, q.size(-2), 16)
    out = layer.transform(q, k, k, x=x, start=start, carry=None)
    return out.q @ out.k.transpose(-1, -2)


@pytest.fixture
def qk() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(1, 2, 9, 8, generator=generator, dtype=torch.float64) for _ in range(2))


@pytest.mark.parametrize("layout", ["half", "interleaved"])
def test_complex_formula(layout: str, qk: tuple[torch.Tensor, torch.Tensor]) -> None:
    layer = encodings.create("rope", heads=2, head_dim=8, dim=16, layout=layout, base=100.0)
    q, k = qk

    def planes(x: torch.Tensor) -> torch.Tensor:
        a, b = x.chunk(2, -1) if layout == "half" else (x[..., 0::2], x[..., 1::2])
        return torch.complex(a, b)

    theta = torch.tensor([100.0 ** (-2 * c / 8) for c in range(4)], dtype=torch.float64)
    turn = torch.polar(torch.ones(9, 4, dtype=torch.float64), torch.arange(9.0).unsqueeze(-1) * theta)
    expected = torch.einsum("bhic,bhjc->bhij", planes(q) * turn, (planes(k) * turn).conj()).real
    torch.testing.assert_close(turned(layer, q, k), expected)


def test_logits_depend_on_the_distance_alone(qk: tuple[torch.Tensor, torch.Tensor]) -> None:
    layer = encodings.create("rope", heads=2, head_dim=8, dim=16)
    torch.testing.assert_close(turned(layer, *qk), turned(layer, *qk, start=131_072), rtol=0, atol=1e-9)


def test_partial_rotation_leaves_the_rest_alone(qk: tuple[torch.Tensor, torch.Tensor]) -> None:
    layer = encodings.create("rope", heads=2, head_dim=8, dim=16, fraction=0.5)
    q, k = qk
    out = layer.transform(q, k, k, x=torch.zeros(1, 9, 16), start=3, carry=None)
    assert torch.equal(out.q[..., 4:], q[..., 4:])
    assert not torch.allclose(out.q[..., :4], q[..., :4])


def test_odd_head_width() -> None:
    with pytest.raises(UserError, match="must be even, not 7"):
        encodings.create("rope", heads=2, head_dim=7, dim=14)
