"""One query against the plain formula: of keys in a cache, of any batch, in any precision."""

from __future__ import annotations

import pytest
import torch

from extrapo import encodings
from extrapo.attention.decode import row
from extrapo.attention.reference import reference
from extrapo.encodings.core.cache import Cache

HEADS, HEAD_DIM, DIM, S = 2, 4, 8, 70


@torch.no_grad()
@pytest.mark.parametrize("name", ["alibi", "cable", "cable-weighted", "k-cable", "adaptive", "cope", "rope+k-cable"])
@pytest.mark.parametrize(("dtype", "off"), [(torch.float64, 1e-6), (torch.float32, 2e-6), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("batch", [1, 3])
def test_equals_the_reference(name: str, dtype: torch.dtype, off: float, batch: int) -> None:
    torch.manual_seed(0)
    layer = encodings.create(name, heads=HEADS, head_dim=HEAD_DIM, dim=DIM).to(dtype)
    x = torch.randn(batch, S, DIM, dtype=dtype)
    keys = Cache(torch.randn(batch, HEADS, S - 1, HEAD_DIM, dtype=dtype))
    values = Cache(torch.randn(batch, HEADS, S - 1, HEAD_DIM, dtype=dtype))
    q, k, v = torch.randn(3, batch, HEADS, 1, HEAD_DIM, dtype=dtype)
    # In a cache with room the heads do not follow one another.
    keys, values = keys.append(k), values.append(v)
    assert not keys.tokens.is_contiguous()
    past = layer.bias(x[:, :-2])
    bias = layer.bias(x[:, -1:], layer.bias(x[:, -2:-1], past))
    found = row(q, keys.tokens, values.tokens, bias, 0.5)
    assert found.shape == (batch, HEADS, 1, HEAD_DIM)
    whole = layer.double().bias(x.double())
    queries = torch.cat([torch.zeros(batch, HEADS, S - 1, HEAD_DIM), q], dim=2).double()
    expected = reference(queries, keys.tokens.double(), values.tokens.double(), whole, 0.5)[:, :, -1:]
    torch.testing.assert_close(found.double(), expected, rtol=off, atol=off)
