"""Angles by which tokens turn the planes of each head, for accumulated rotations (Godavarti, 2606.24975).

A source gives delta_t in radians for each token and plane. In the formulas here and in `random_angles`, theta_c =
base^(-2c/d) are RoPE's frequencies; e and c are tables per token id; x_t is the residual stream before the norm; the
MLP is D -> 4D -> H d/2 with a GELU, LN runs over the H d/2 planes of all heads. MLP, LN and c serve all layers.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from extrapo.encodings.core.checkpoints import forget
from extrapo.encodings.core.context import Context
from extrapo.encodings.core.frequencies import frequencies
from extrapo.encodings.core.noise import uniform
from extrapo.encodings.core.positions import wide
from extrapo.encodings.core.spec import LayerSpec
from extrapo.errors import UserError


@dataclass(frozen=True)
class Planes:
    """The planes of one layer, and what a source of angles may be told.

    Args:
        heads: number of heads H.
        head_dim: width of a head d.
        dim: model width D.
        base: of the frequencies theta_c.
        seed: of the noise, and of `det-sign`.
        templates: K of `codebook`.
    """

    heads: int
    head_dim: int
    dim: int
    base: float = 10_000.0
    seed: int = 0
    templates: int = 4

    @property
    def count(self) -> int:
        """Planes of all heads, H d/2."""
        return self.heads * (self.head_dim // 2)

    def theta(self, x: Tensor) -> Tensor:
        """(d/2,) frequencies in the wide dtype, on the device of `x`."""
        return frequencies(self.head_dim, self.base, x)

    def numbers(self, x: Tensor) -> Tensor:
        """(1, H, 1, d/2) a number for each plane, a key of the noise."""
        return torch.arange(self.count, device=x.device).view(1, self.heads, 1, -1)

    def split(self, x: Tensor) -> Tensor:
        """(B, T, H d/2) -> (B, H, T, d/2) in the wide dtype."""
        return x.to(wide(x)).view(*x.shape[:-1], self.heads, -1).transpose(1, 2)


class Angles(nn.Module, ABC):
    """One layer's source of angles.

    Args:
        planes: the planes it turns.
        spec: the layer, and where it stands.
    """

    #: whether values turn by angles of their own.
    own_values: ClassVar[bool] = False
    #: why a parameter gets no gradient at the first step, where one does not.
    frozen: ClassVar[str] = ""
    #: whether they are drawn by the token's place in the text.
    noisy: ClassVar[bool] = False

    def __init__(self, planes: Planes, spec: LayerSpec) -> None:
        super().__init__()
        self.planes, self.spec = planes, spec
        self.common = self.make_common() if spec.is_first else None
        if self.common is None:
            # Weights that were saved when each composition of a model had a module, of which the first one served.
            self.register_load_state_dict_pre_hook(partial(forget, "common."))  # type: ignore[no-untyped-call]

    def make_common(self) -> nn.Module | None:
        """What serves all layers that have these angles, if anything: the first one owns it."""
        return None

    def shared(self, context: Context) -> nn.Module:
        """What serves all layers: the first one hands it on to the later ones of the pass."""
        module = context.shared.setdefault("accumulated-rotation module", self.common)
        if module is None:
            raise UserError("these angles come from a module of the first layer that has them: no other can run alone")
        assert isinstance(module, nn.Module)
        return module

    @abstractmethod
    def forward(self, x: Tensor, context: Context, stream: int = 0) -> Tensor:
        """delta_t of the tokens of one pass, (B or 1, H or 1, T, d/2) radians in the wide dtype.

        Args:
            x: (B, T, D) the layer's input, after its norm.
            context: where the tokens stand.
            stream: 0 for queries and keys, 1 for values with angles of their own.
        """


class Fixed(Angles):
    """delta = -theta_c: the accumulated rotation is RoPE."""

    def forward(self, x: Tensor, context: Context, stream: int = 0) -> Tensor:
        return -self.planes.theta(x).expand(1, 1, x.size(1), -1)


class TokenAngles(Angles):
    """delta = pi tanh(e[token]) - theta_c, e the layer's own, 0 at the start: RoPE then."""

    def __init__(self, planes: Planes, spec: LayerSpec) -> None:
        super().__init__(planes, spec)
        self.table = token_table(planes, spec)

    def forward(self, x: Tensor, context: Context, stream: int = 0) -> Tensor:
        return table_angles(self.planes, self.table, x, context)


class TokenNetworkAngles(Angles):
    """delta = pi tanh(e[token]) - theta_c + s pi tanh(MLP(x_t)), s a number per layer, 0 at the start."""

    frozen = "the MLP's factor is 0 at the start: its weights get a gradient from the second step on"

    def __init__(self, planes: Planes, spec: LayerSpec) -> None:
        super().__init__(planes, spec)
        self.scale = nn.Parameter(torch.zeros(()))
        self.table = token_table(planes, spec)

    def make_common(self) -> nn.Module:
        return network(self.planes)

    def forward(self, x: Tensor, context: Context, stream: int = 0) -> Tensor:
        correction = precise(self.shared(context), residual(x, context)).tanh()
        turns = table_angles(self.planes, self.table, x, context)
        return turns + math.pi * self.scale * self.planes.split(correction)


class Codebook(Angles):
    """delta = pi tanh(c_k) - theta_c, with c_1 ... c_K of the token id, and k the largest of (pi tanh(c_k)) . W x_t.

    c starts at N(0, 0.01); W, without a bias, is the layer's own. The choice is hard, its gradient that of the softmax
    (straight-through).
    """

    def __init__(self, planes: Planes, spec: LayerSpec) -> None:
        super().__init__(planes, spec)
        self.projection = linear(self.planes.dim, self.planes.count, bias=False)

    def make_common(self) -> nn.Module:
        table = nn.Embedding(self.spec.vocab_size, self.planes.templates * self.planes.count)
        nn.init.normal_(table.weight, std=0.01)
        return table

    def forward(self, x: Tensor, context: Context, stream: int = 0) -> Tensor:
        table = self.shared(context)
        assert isinstance(table, nn.Embedding)
        c = look_up(table.weight, x, context)
        templates = c.tanh().view(*c.shape[:2], self.planes.templates, -1)
        wanted = precise(self.projection, residual(x, context))
        # -theta_c would add the same to all K scores.
        soft = (math.pi * templates @ wanted.unsqueeze(-1)).softmax(dim=-2)
        hard = torch.zeros_like(soft).scatter(-2, soft.argmax(dim=-2, keepdim=True), 1.0)
        chosen = (templates * (hard + (soft - soft.detach()))).sum(dim=-2)
        return math.pi * self.planes.split(chosen) - self.planes.theta(x)


class TokenSigns(Angles):
    """delta = theta_c or -theta_c, by a hash of token id and plane: the same sign wherever the token stands."""

    def forward(self, x: Tensor, context: Context, stream: int = 0) -> Tensor:
        tokens, theta = ids(x, context)[:, None, :, None], self.planes.theta(x)
        return torch.where(uniform(self.planes.seed, tokens, self.planes.numbers(x)) < 0.5, theta, -theta)


class LinearAngles(Angles):
    """delta = W x_t + b, of the layer's normed input (the author's `monoidal`, and `joformer` with values)."""

    def __init__(self, planes: Planes, spec: LayerSpec) -> None:
        super().__init__(planes, spec)
        self.projection = linear(planes.dim, planes.count)

    def forward(self, x: Tensor, context: Context, stream: int = 0) -> Tensor:
        return self.planes.split(precise(self.projection, x))


def token_table(planes: Planes, spec: LayerSpec) -> nn.Parameter:
    """e, (vocabulary, H d/2), 0 at the start."""
    return nn.Parameter(torch.zeros(spec.vocab_size, planes.count))


def table_angles(planes: Planes, table: Tensor, x: Tensor, context: Context) -> Tensor:
    """pi tanh(e[token]) - theta_c, (B or 1, H, T, d/2)."""
    return math.pi * planes.split(look_up(table, x, context).tanh()) - planes.theta(x)


def linear(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    """Weights N(0, 0.02) and bias 0, as the model's other matrices."""
    layer = nn.Linear(inputs, outputs, bias)
    nn.init.normal_(layer.weight, std=0.02)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def network(planes: Planes) -> nn.Sequential:
    """The MLP, D -> 4D -> H d/2 with a GELU."""
    return nn.Sequential(linear(planes.dim, 4 * planes.dim), nn.GELU(), linear(4 * planes.dim, planes.count))


def ids(x: Tensor, context: Context) -> Tensor:
    """(B or 1, T) token ids; where a layer is used by itself, without tokens, all count as id 0."""
    if context.tokens is not None:
        return context.tokens
    return torch.zeros(1, x.size(1), dtype=torch.int64, device=x.device)


def look_up(table: Tensor, x: Tensor, context: Context) -> Tensor:
    """(B or 1, T, width) the rows of a table per token id, in float32 at least."""
    rows = F.embedding(ids(x, context), table)
    return rows.to(torch.promote_types(rows.dtype, torch.float32))


def residual(x: Tensor, context: Context) -> Tensor:
    """(B, T, D) the residual stream before the norm; where a layer is used by itself, its normed input."""
    return x if context.residual is None else context.residual


def precise(module: nn.Module, x: Tensor) -> Tensor:
    """`module` of x in float32 at least, also under autocast: its angles are summed over the whole text."""
    with torch.autocast(x.device.type, enabled=False):
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        out = functional_call(module, {name: weight.to(x.dtype) for name, weight in module.named_parameters()}, (x,))
    assert isinstance(out, Tensor)
    return out
