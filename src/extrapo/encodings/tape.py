"""TAPE, contextualised equivariant positions (Zhu et al., 2501.00712; code VITA-Group/TAPE): RoPE's cosines and sines
are a state of each token, which every layer updates.

    q_i, k_i turned by P_i,   P = (cos, sin) of RoPE in the first layer
    P <- P + r_h A P                                          A the attention's weights
    P <- P + Down(SiLU(G m) * Up(P)),   m the MLP's output    Up: H -> units, Down: units -> H, over the heads

Both updates are linear in P, with real factors: shifting all positions turns every P alike, and changes no logit.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from extrapo.encodings.core.checkpoints import forget
from extrapo.encodings.core.context import Context
from extrapo.encodings.core.encoding import Encoding, Paper, Transformed, encodings
from extrapo.encodings.core.frequencies import frequencies, require_even
from extrapo.encodings.core.relative import wide_enough
from extrapo.encodings.core.rotation import rotate_by
from extrapo.encodings.core.spec import LayerSpec

Mixing = Literal["scalar", "heads"]


class TapeState(NamedTuple):
    """What one layer leaves for the next: P, and how many layers have updated it."""

    p: Tensor  # (B, H, T, d), the cosines of the d/2 planes and then the sines
    layers: int


@encodings.register("tape")
class TAPE(Encoding):
    """Positions become contextual layer by layer; W_r and Up are 0 at the start, which is RoPE.

    The values carry P as further columns, so that attention itself computes A P. The last layer that has TAPE
    leaves nothing, and has no parameters. What the authors' random offset in training changes is rounding alone;
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
        spec: LayerSpec,
        *,
        base: float = 10_000.0,
        units: int = 48,
        mixing: Mixing = "scalar",
    ) -> None:
        super().__init__(spec)
        require_even(self.head_dim, "tape")
        self.base = base
        self.mixing: Mixing = mixing
        if spec.is_last:
            # Weights that were saved when the last layer of the model alone, TAPE's or not, had none.
            for unused in ("attended", "gate.", "up.", "down."):
                self.register_load_state_dict_pre_hook(partial(forget, unused))  # type: ignore[no-untyped-call]
            return
        self.attended = nn.Parameter(torch.zeros(self.heads, self.heads))
        self.gate = nn.Linear(self.dim, units, bias=False)
        self.up = nn.Linear(self.heads, units, bias=False)
        self.down = nn.Linear(units, self.heads, bias=False)
        nn.init.normal_(self.gate.weight, std=0.02)
        nn.init.zeros_(self.up.weight)
        nn.init.normal_(self.down.weight, std=0.02)

    def incoming(self, context: Context, like: Tensor) -> TapeState:
        """What the layer before left, or RoPE's at the bottom of a pass."""
        tape: TapeState | None = context.shared.get("tape")
        if tape is not None:
            return tape
        angles = context.index.unsqueeze(-1) * frequencies(self.head_dim, self.base, like)
        p = torch.cat([angles.cos(), angles.sin()], dim=-1).to(wide_enough(like))
        return TapeState(p.expand(*like.shape[:3], -1), 0)

    def last(self, tape: TapeState) -> bool:
        """Whether no layer of TAPE comes after this one; one module may serve several."""
        return self.spec.is_last or tape.layers + 1 == self.spec.holders

    def transform(self, q: Tensor, k: Tensor, v: Tensor, *, x: Tensor, context: Context, state: Any) -> Transformed:
        tape = self.incoming(context, q)
        cos, sin = tape.p.chunk(2, dim=-1)

        def rotate(x: Tensor) -> Tensor:
            return rotate_by(x, cos, sin, "half").to(x.dtype)

        def output(y: Tensor) -> Tensor:
            attended = y[..., v.size(-1) :].to(tape.p.dtype)
            context.shared["tape"] = TapeState(tape.p + self.mixed(attended), tape.layers)
            return y[..., : v.size(-1)]

        if self.last(tape):
            return Transformed(rotate(q), rotate(k), v, state)
        return Transformed(rotate(q), rotate(k), torch.cat([v, tape.p.to(v.dtype)], dim=-1), state, output)

    def mixed(self, attended: Tensor) -> Tensor:
        """W_r of A P, (B, H, T, d)."""
        weight = self.attended.to(attended.dtype)
        if self.mixing == "heads":
            return torch.einsum("he,betc->bhtc", weight, attended)
        return weight.sum(-1).view(-1, 1, 1) * attended

    def update_shared(self, update: Tensor, context: Context) -> None:
        tape: TapeState | None = context.shared.pop("tape", None)
        if tape is None or self.last(tape):
            return
        up: Tensor = self.up(tape.p.to(update.dtype).movedim(1, -1))
        step: Tensor = self.down(F.silu(self.gate(update)).unsqueeze(-2) * up)
        context.shared["tape"] = TapeState(tape.p + step.movedim(-1, 1).to(tape.p.dtype), tape.layers + 1)
