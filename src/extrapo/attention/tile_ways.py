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

from extrapo.attention.compiled_tiles import CompiledTiles
from extrapo.attention.diagonals import DiagonalTiles, has_lines
from extrapo.attention.softmax import softmax
from extrapo.attention.tile_logits import BiasTiles, GraphTiles, WindowTiles
from extrapo.encodings.bias import Bias, NoBias


def bias_tiles(
    bias: Bias, tensors: Sequence[Tensor], backward: bool, *, tile: Sequence[int], dtype: torch.dtype, compiled: bool
) -> BiasTiles:
    """The way that serves; arguments as those of the classes, and

    Args:
        tile: (B, H, R, S) of the last tile.
        dtype: of the logits.
        compiled: compile what can be: the exponentials, and the formula, if there is one.
    """
    repeats = bias.additive and bias.toeplitz()
    if compiled and not repeats and bias.formula() is not None:
        # A view of one row alone is no diagonal: its body would take it for a row of its own.
        kind = DiagonalTiles if tile[2] > 1 and has_lines(bias, tensors) else CompiledTiles
        made = kind(bias, tensors, backward, tile, dtype)
        if made.body is not None:
            return made
    how = softmax(dtype, compiled)
    if isinstance(bias, NoBias):
        return BiasTiles(bias, tensors, backward, how)
    if repeats:
        return WindowTiles(bias, tensors, backward, how, tile[2])
    return GraphTiles(bias, tensors, backward, how)
