"""TAPE, contextualised equivariant positions (Zhu et al., 2501.00712; code VITA-Group/TAPE): RoPE's cosines and sines
are a state of each token, which every layer updates.

    q_i, k_i turned by P_i,   P = (cos, sin) of RoPE in the first layer
    P <- P + r_h A P                                          A the attention's weights
    P <- P + Down(SiLU(G m) * Up(P)),   m the MLP's output    Up: H -> units, Down: units -> H, over the heads

Both updates are linear in P, with real factors: shifting all positions turns every P alike, and changes no logit.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from extrapo.encodings.core.encoding import Encoding, Paper, Transformed, encodings
from extrapo.encodings.core.context import Context, Site
from extrapo.encodings.core.distance import wide_enough
from extrapo.encodings.core.rotation import frequencies, joined, pairs, require_even

Mixing = Literal["scalar", "heads"]


class Positions(NamedTuple):
    """What one layer hands on to the next: P, and how many layers have updated it."""

    p: Tensor  # (B, H, T, d), the cosines of the d/2 planes and then the sines
    layers: int


@encodings.register("tape")
class TAPE(Encoding):
    """Positions become contextual layer by layer; W_r and Up are 0 at the start, which is RoPE.

    The values carry P as further columns, so that attention itself computes A P. The last layer of a model hands
    nothing on, and has no parameters. What the authors' random offset in training changes is rounding alone;
    `randomized+tape` with mode = offset has it.

    Args:
        base: of RoPE's frequencies.
        units: width of the update after the MLP, 48 in the authors' code.
        mixing: `scalar`, r_h = sum over e of (W_r)_he, what the authors' contraction computes; `heads`, where
            (W_r)_he mixes head e's A P into head h's P.
    """

    paper = Paper(
        "Zhu et al., 2501.00712",
        "contextual",
        "rotation by a state",
        summary="RoPE's cosines and sines, updated by attention and MLP in every layer",
        year=2025,
        contextual=True,
        state="P, d numbers",
    )
    exempt: ClassVar[dict[str, str]] = {
        "frozen": "Up is 0 at the start, so that Down and the gate get a gradient from the second step on"
    }

    def __init__(
        self,
        heads: int,
        head_dim: int,
        dim: int,
        *,
        base: float = 10_000.0,
        units: int = 48,
        mixing: Mixing = "scalar",
    ) -> None:
        super().__init__(heads, head_dim, dim)
        require_even(head_dim, "tape")
        self.base, self.units = base, units
        self.mixing: Mixing = mixing

    def settle(self, site: Site) -> None:
        super().settle(site)
        if site.layer + 1 == site.layers:
            return
        self.attended = nn.Parameter(torch.zeros(self.heads, self.heads))
        self.gate = nn.Linear(self.dim, self.units, bias=False)
        self.up = nn.Linear(self.heads, self.units, bias=False)
        self.down = nn.Linear(self.units, self.heads, bias=False)
        nn.init.normal_(self.gate.weight, std=0.02)
        nn.init.zeros_(self.up.weight)
        nn.init.normal_(self.down.weight, std=0.02)

    def arrived(self, context: Context, like: Tensor) -> Positions:
        """The state that the layer before handed on, or RoPE's at the bottom of a pass."""
        found: Positions | None = context.shared.get("tape")
        if found is not None:
            return found
        angles = context.index.unsqueeze(-1) * frequencies(self.head_dim, self.base, like)
        p = torch.cat([angles.cos(), angles.sin()], dim=-1).to(wide_enough(like))
        return Positions(p.expand(*like.shape[:3], -1), 0)

    def last(self, state: Positions) -> bool:
        """Whether no layer comes after this one; one module may serve all layers."""
        return self.site.layers in (self.site.layer + 1, state.layers + 1)

    def transform(self, q: Tensor, k: Tensor, v: Tensor, *, x: Tensor, context: Context, carry: Any) -> Transformed:
        state = self.arrived(context, q)
        cos, sin = state.p.chunk(2, dim=-1)

        def turned(x: Tensor) -> Tensor:
            a, b = pairs(x)
            return joined(a * cos - b * sin, a * sin + b * cos).to(x.dtype)

        def output(y: Tensor) -> Tensor:
            attended = y[..., v.size(-1) :].to(state.p.dtype)
            context.shared["tape"] = Positions(state.p + self.mixed(attended), state.layers)
            return y[..., : v.size(-1)]

        if self.last(state):
            return Transformed(turned(q), turned(k), v, carry)
        return Transformed(turned(q), turned(k), torch.cat([v, state.p.to(v.dtype)], dim=-1), carry, output)

    def mixed(self, attended: Tensor) -> Tensor:
        """W_r of A P, (B, H, T, d)."""
        weight = self.attended.to(attended.dtype)
        if self.mixing == "heads":
            return torch.einsum("he,betc->bhtc", weight, attended)
        return weight.sum(-1).view(-1, 1, 1) * attended

    def hand_on(self, update: Tensor, context: Context) -> None:
        state: Positions | None = context.shared.pop("tape", None)
        if state is None or self.last(state):
            return
        up: Tensor = self.up(state.p.to(update.dtype).movedim(1, -1))
        step: Tensor = self.down(F.silu(self.gate(update)).unsqueeze(-2) * up)
        context.shared["tape"] = Positions(state.p + step.movedim(-1, 1).to(state.p.dtype), state.layers + 1)
