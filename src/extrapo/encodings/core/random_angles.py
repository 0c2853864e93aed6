"""Random angles for accumulated rotations (Godavarti, 2606.24975): noise U as it is, or in a learned size.

Noise of mean 0 that no parameter shapes already extrapolates: the turns between distant tokens become incoherent.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from extrapo.encodings.core.angles import Angles, Planes, look_up, network, precise, residual, token_table
from extrapo.encodings.core.context import Context
from extrapo.encodings.core.noise import Draws, uniform
from extrapo.encodings.core.spec import LayerSpec


class Random(Angles):
    """delta = theta_c U(-1, 1): at every training pass a new draw per row, token, head, plane and layer.

    At evaluation the numbers depend on seed, layer, position and plane alone, so that a result repeats itself. Its
    spread over draws is that over seeds: the seed is no weight, and can be changed on a trained model.
    """

    noisy = True

    def __init__(self, planes: Planes, spec: LayerSpec) -> None:
        super().__init__(planes, spec)
        self.draws = Draws()

    @property
    def layer(self) -> int:
        """The layer's key of the noise."""
        return self.spec.layer

    def noise(self, x: Tensor, context: Context, stream: int = 0) -> Tensor:
        """U(-1, 1), (B or 1, H, T, d/2): a row for each of the batch in training, one for all at evaluation."""
        # The first layer draws for all, so that layers agree on the draw also where they are one module.
        if "accumulated-rotation draw" not in context.shared:
            context.shared["accumulated-rotation draw"] = self.draws()
        draw = context.shared["accumulated-rotation draw"]
        row = torch.arange(x.size(0), device=x.device).view(-1, 1, 1, 1) if self.training else 0
        position = torch.arange(context.start, context.start + x.size(1), device=x.device).unsqueeze(-1)
        plane = self.planes.numbers(x) + stream * self.planes.count
        return 2 * uniform(self.planes.seed, self.layer, draw, row, position, plane) - 1

    def forward(self, x: Tensor, context: Context, stream: int = 0) -> Tensor:
        return self.planes.theta(x) * self.noise(x, context, stream)


class RandomIndependent(Random):
    """`random`, and values turn by angles of their own."""

    own_values = True


class RandomShared(Random):
    """`random` with one draw for all layers."""

    @property
    def layer(self) -> int:
        return 0


class RandomPositive(Random):
    """delta = U(0, 2 theta_c): the mean is not 0. A control, which fails at unseen lengths as RoPE does."""

    def forward(self, x: Tensor, context: Context, stream: int = 0) -> Tensor:
        return self.planes.theta(x) * (1 + self.noise(x, context, stream))


class RandomTokenAngles(Random):
    """delta = theta_c U(-1, 1) (1 + tanh(LN(e[token]))), e the layer's own, 0 at the start."""

    frozen = "the table is 0 at the start: the gain of LN gets a gradient from the second step on"

    def __init__(self, planes: Planes, spec: LayerSpec) -> None:
        super().__init__(planes, spec)
        self.table = token_table(planes, spec)

    def make_common(self) -> nn.Module:
        return nn.LayerNorm(self.planes.count)

    def forward(self, x: Tensor, context: Context, stream: int = 0) -> Tensor:
        size = precise(self.shared(context), look_up(self.table, x, context)).tanh()
        return super().forward(x, context) * (1 + self.planes.split(size))


class LearnedFrequencies(Random):
    """delta = U(-1, 1) |LN(MLP(x_t))|."""

    def make_common(self) -> nn.Module:
        return nn.Sequential(network(self.planes), nn.LayerNorm(self.planes.count))

    def forward(self, x: Tensor, context: Context, stream: int = 0) -> Tensor:
        size = precise(self.shared(context), residual(x, context)).abs()
        return self.noise(x, context) * self.planes.split(size)


class ScaledFrequencies(LearnedFrequencies):
    """delta = U(-1, 1) |theta_c LN(MLP(x_t))|."""

    def forward(self, x: Tensor, context: Context, stream: int = 0) -> Tensor:
        return self.planes.theta(x) * super().forward(x, context)
