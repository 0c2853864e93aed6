"""The way from s q.k to weights and back that serves the tiles of a bias, by what the bias is.

    diagonals   a formula that is the same along every diagonal, and a compiler at hand: one call each way, from a line
    compiled    any other formula of single numbers, and a compiler at hand: one call each way
    window      a bias that is the same along every diagonal: made once, every tile is a part of it
    nothing     no bias
    graph       anything else: an autograd graph of each tile, from what the encoding wrote

The last one is the specification of the others.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from extrapo.attention.cpu.compiled_tiles import CompiledTiles
from extrapo.attention.cpu.toeplitz import DiagonalTiles, has_lines
from extrapo.attention.cpu.softmax import softmax
from extrapo.attention.tiling import rows_per_body, rows_per_tile
from extrapo.attention.cpu.tile_logits import BiasTiles, GraphTiles, WindowTiles
from extrapo.encodings.core.bias import Bias, NoBias


def bias_tiles(
    bias: Bias,
    tensors: Sequence[Tensor],
    backward: bool,
    *,
    whole: Sequence[int],
    rows: int | None,
    dtype: torch.dtype,
    compiled: bool,
) -> BiasTiles:
    """The way that serves; arguments as those of the classes, and

    Args:
        whole: (B, H, T, S) of the attention.
        rows: of a full tile; by shape and way where None.
        dtype: of the logits.
        compiled: compile what can be: the exponentials, and the formula, if there is one.
    """
    batch, heads, queries, keys = whole
    repeats = bias.additive and bias.toeplitz()
    if compiled and not repeats and bias.formula() is not None:
        tile = (batch, heads, min(rows or rows_per_body(queries, keys), queries), keys)
        # A view of one row alone is no diagonal: its body would take it for a row of its own.
        kind = DiagonalTiles if tile[2] > 1 and has_lines(bias, tensors) else CompiledTiles
        made = kind(bias, tensors, backward, tile, dtype)
        if made.body is not None:
            return made
    # Sums of gradients weigh more where the exponentials are compiled: fewer tiles have fewer of them.
    size = rows or rows_per_tile(batch * heads, keys, queries, tiles=4 if compiled else 8)
    plain = GraphTiles if not isinstance(bias, NoBias) else BiasTiles
    tile = (batch, heads, min(size, queries), keys)
    return (WindowTiles if repeats else plain)(bias, tensors, backward, tile, softmax(dtype, compiled))
