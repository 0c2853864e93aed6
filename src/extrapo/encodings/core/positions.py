"""Where a token stands: by its index, or by what the tokens before it add up to (Cable 2503.08067, FoX 2503.02130)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Input = Literal["full", "head"]

#: f, the increment that a token adds to the clock, from its pre-activation: never negative.
INCREMENTS: dict[str, Callable[[Tensor], Tensor]] = {
    "softplus": F.softplus,
    "relu": F.relu,
    # -ln sigma(z), what a forget gate of sigma(z) costs.
    "log-sigmoid": lambda z: F.softplus(-z),
    "exp": torch.exp,
}


#: Who adds increments up on a device, by its type: (z, a name of INCREMENTS) -> S; elsewhere PyTorch does, operation by
#: operation.
ADDERS: dict[str, Callable[[Tensor, str], Tensor]] = {}


def wide(x: Tensor) -> torch.dtype:
    """The dtype in which positions of `x` are kept: float64, and float32 where a device has nothing wider.

    A sum over 131,072 tokens loses three digits in float32 and all of them in bfloat16. Only one number per token
    and head is kept this wide; differences are taken first and rounded after.
    """
    return torch.float32 if x.is_mps else torch.float64


def index(start: int, stop: int, x: Tensor) -> Tensor:
    """Index positions start..stop-1, shape (1, 1, stop - start), on the device of `x`."""
    return torch.arange(start, stop, device=x.device, dtype=wide(x)).view(1, 1, -1)


class HeadProjection(nn.Module):
    """One number per token and head: a linear map of the layer's input.

    Args:
        dim: model width D.
        heads: number of heads H.
        bias: add a bias per head, initialised to 0.
        source: `full`, every head reads the whole width (Cable's code); `head`, each its own slice of it (the
            symbols of Cable's paper).
    """

    def __init__(self, dim: int, heads: int, *, bias: bool, source: Input = "full") -> None:
        super().__init__()
        if source not in ("full", "head"):
            raise ValueError(f"source must be 'full' or 'head', not {source!r}")
        self.heads = heads
        self.source: Input = source
        self.weight = nn.Parameter(torch.empty(heads, dim if source == "full" else dim // heads))
        self.bias = nn.Parameter(torch.zeros(heads)) if bias else None
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, H, T), in float32 at least, also under autocast."""
        if self.source == "full":
            return per_head(x, self.weight, self.bias)
        return per_head(x.view(*x.shape[:-1], self.heads, -1), self.weight, self.bias)


def per_head(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A number of each token (B, T, D), or of each head's slice of it (B, T, H, d), by (H, D or d) weights and (H,)
    biases: (B, H, T), in float32 at least, also under autocast.
    """
    # Asking a tensor for its device's name takes longer than an operation on one token.
    if torch.is_autocast_enabled(device := "cpu" if x.is_cpu else x.device.type):
        with torch.autocast(device, enabled=False):
            return per_head(x, weight, bias)
    if x.dtype != weight.dtype or x.dtype.itemsize < 4:
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        weight = weight.to(x.dtype)
        bias = None if bias is None else bias.to(x.dtype)
    if x.dim() == 3:
        z = F.linear(x, weight, bias).transpose(1, 2)
        # What comes after is elementwise and along the text: on a CPU five times as fast there as across it.
        return z.contiguous() if x.is_cpu else z
    z = torch.einsum("bthd,hd->bht", x, weight)
    return z if bias is None else z + bias.view(-1, 1)


def both_per_head(x: Tensor, one: HeadProjection, other: HeadProjection) -> tuple[Tensor, Tensor]:
    """What two maps make of (B, T, D), each (B, H, T). So narrow a map takes as long as reading its input does: of many
    tokens, two maps of the whole width read it once.
    """
    if one.source != "full" or other.source != "full" or x.size(1) == 1:
        return one.forward(x), other.forward(x)
    bias = None
    if one.bias is not None or other.bias is not None:
        bias = torch.cat([map.weight.new_zeros(map.heads) if map.bias is None else map.bias for map in (one, other)])
    z = per_head(x, torch.cat([one.weight, other.weight]), bias)
    # Not two slices: the gradient of each would be as large as z, and the two added.
    first, second = torch.split(z, [one.heads, other.heads], dim=1)
    return first, second


class ContextualPositions(nn.Module):
    """S_t = sum over s <= t of f(w_h . x_s + b_h): the clock that the tokens themselves drive.

    Args:
        dim: model width D.
        heads: number of heads H.
        increments: f, a name of INCREMENTS.
        bias: whether the linear map has a bias.
        source: what each head reads, see HeadProjection.
    """

    def __init__(self, dim: int, heads: int, *, increments: str, bias: bool, source: Input = "full") -> None:
        super().__init__()
        self.increments = increments
        self.projection = HeadProjection(dim, heads, bias=bias, source=source)

    def forward(self, x: Tensor, start: Tensor | None = None) -> Tensor:
        """(B, T, D) -> (B, H, T), summed in the wide dtype from `start` (B, H, 1), the last position before x."""
        # Not as a module: for one token, while decoding, that costs as much as the map itself.
        return self.summed(self.projection.forward(x), start)

    def summed(self, z: Tensor, start: Tensor | None = None) -> Tensor:
        """The positions where the map of the tokens, (B, H, T), is there already."""
        if start is None and not z.is_cpu and (add_up := ADDERS.get(z.device.type)) is not None:
            return add_up(z, self.increments)
        steps = INCREMENTS[self.increments](z)
        steps = steps.double() if wide(z) == torch.float64 else steps
        if start is not None and steps.size(-1) == 1:
            return start + steps
        total = steps.cumsum(-1)
        return total if start is None else total + start
