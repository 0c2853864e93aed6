"""Which way serves a bias by tiles, with a compiler and without."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from extrapo.attention.cpu.tile_logits import BiasTiles, GraphTiles, WindowTiles
from extrapo.attention.cpu.tile_ways import bias_tiles

from extrapo import encodings
from extrapo.attention.cpu.compiled_tiles import CompiledTiles
from extrapo.attention.cpu.compiler import has_compiler
from extrapo.attention.cpu.toeplitz import DiagonalTiles

CONST = {"alpha_mode": "const"}


@pytest.mark.parametrize(
    ("name", "options", "compiled", "plain"),
    [
        ("nope", {}, CompiledTiles, BiasTiles),
        ("k-cable", {}, CompiledTiles, GraphTiles),
        ("adaptive", CONST, DiagonalTiles, GraphTiles),
        ("alibi", {}, WindowTiles, WindowTiles),
        ("cope", {}, GraphTiles, GraphTiles),
    ],
)
@pytest.mark.parametrize("backward", [False, True])
def test_the_way(
    name: str, options: dict[str, Any], compiled: type[BiasTiles], plain: type[BiasTiles], backward: bool
) -> None:
    x, q = torch.randn(1, 12, 8), torch.randn(1, 2, 12, 4)
    made = encodings.create(name, heads=2, head_dim=4, dim=8, **options).bias(x).given(q, q)
    leaves = [t.detach().requires_grad_(t.requires_grad and backward) for t in made.tensors()]
    for with_compiler, expected in ((False, plain), (True, compiled)):
        if with_compiler and not has_compiler():
            pytest.skip("no C++ compiler")
        way = bias_tiles(
            made, leaves, backward, whole=(1, 2, 12, 12), rows=4, dtype=torch.float32, compiled=with_compiler
        )
        assert type(way) is expected
