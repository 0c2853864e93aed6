"""Triton: any formula of single pairs, as kernels for a GPU that are generated from it."""

from __future__ import annotations

import importlib.util
import os
import sys
from functools import lru_cache

import torch
from torch import Tensor

from extrapo.attention.backend import Backend, Verdict
from extrapo.attention.gpu.formulas import Factors
from extrapo.attention.gpu.tuning import WIDEST
from extrapo.attention.recorded.private import constant
from extrapo.attention.recorded.watched import watch
from extrapo.encodings.core.bias import Bias, Elementwise, NoBias
from extrapo.encodings.core.positions import ADDERS, INCREMENTS, wide
from extrapo.encodings.core.turned import TurnedRows, turned_rows
from extrapo.encodings.core.visibility import Visibility

#: What the kernels multiply.
DTYPES = (torch.bfloat16, torch.float16, torch.float32)

SERVES = "kernels generated from the formula, linear memory; never run on a card"


@constant
def shortcoming() -> str:
    """Why no kernel runs here, in a line; empty where one does."""
    if not is_installed():
        return "triton is not installed (pip install triton)"
    return ""


@lru_cache(maxsize=1)
def is_installed() -> bool:
    """Whether there is a Triton."""
    return importlib.util.find_spec("triton") is not None


@constant
def interpreted() -> bool:
    """Whether Triton's interpreter takes tensors of a CPU."""
    # To import Triton takes a fifth of a second: only where somebody may have asked for its interpreter.
    if "TRITON_INTERPRET" not in os.environ and "triton" not in sys.modules:
        return False
    from extrapo.attention.gpu.kernels import is_interpreted

    return is_interpreted()


class Triton(Backend):
    """Tiles of a GPU, forward and backward."""

    name = "triton"
    compiles = True

    def serves(self, bias: Bias, q: Tensor, k: Tensor) -> Verdict:
        why = self.objection(bias, q, k)
        return Verdict(True, SERVES) if why is None else Verdict(False, why)

    def objection(self, bias: Bias, q: Tensor, k: Tensor) -> str | None:
        """Why it does not serve; None where it does."""
        if why := shortcoming():
            return why
        # Tensors without numbers have the same operations as those of a GPU.
        if q.device.type not in ("cuda", "meta") and not (q.device.type == "cpu" and interpreted()):
            return "it is for CUDA tensors; those of a CPU it takes with TRITON_INTERPRET=1 in the environment, slowly"
        if q.size(-2) == 1:
            return "it is for more than one query"
        turned = turned_rows(bias)
        if turned is not None and (why := objection_to_turns(turned)):
            return why
        if turned is None and not isinstance(bias, Elementwise):
            return "the encoding owns its logits"
        if isinstance(bias, Elementwise) and not bias.pointwise() and not bias.known_toeplitz():
            return "a logit reads a number of each pair: kernels read tables and networks of the index distance alone"
        if q.dtype not in DTYPES or k.dtype != q.dtype:
            return "it is for q and k of one dtype, bfloat16, float16 or float32"
        if q.size(-1) > WIDEST:
            return f"it is for heads of at most {WIDEST} numbers"
        return Factors.refusal(bias) or None

    def pays(self, bias: Bias, q: Tensor, k: Tensor) -> Verdict:
        if not q.is_cuda and q.device.type != "meta":
            return Verdict(False, "an interpreter is for tests")
        plain = isinstance(bias, NoBias)
        return Verdict(not plain, "where nothing is added, the stock fused attention is as fast")

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, bias: Bias, *, scale: float) -> Tensor:
        from extrapo.attention.gpu.operator import attention

        factors = Factors.of(bias)
        # Under autocast some of them may come in full precision.
        values = v.to(q.dtype)
        windows = limits(bias.visibility())
        out, _ = attention(q, k, values, list(factors.tensors), factors.name, factors.trained, scale, windows)
        if (turned := turned_rows(bias)) is not None and (rows := turned.watched_rows()):
            watch(q, k, v, bias, scale, rows)
        return out.to(v.dtype)  # type: ignore[no-any-return]


def objection_to_turns(turned: TurnedRows) -> str:
    """Why planes that turn are not served, in a line; empty where they are."""
    if not turned.host.known_toeplitz():
        return "planes turn by an angle of each pair: kernels read cosines and sines of the index distance alone"
    if turned.theta.requires_grad:
        return "the frequencies of planes that turn are trained: kernels have the gradients of the turns alone"
    return ""


def add_up(z: Tensor, increments: str) -> Tensor:
    """Contextual positions, by one kernel where there is a Triton."""
    if shortcoming() or z.dtype != torch.float32:
        steps: Tensor = INCREMENTS[increments](z)
        return steps.to(wide(z)).cumsum(-1)
    from extrapo.attention.gpu.clock import clock

    return clock(z, increments)  # type: ignore[no-any-return]


ADDERS |= dict.fromkeys(("cuda", "meta"), add_up)


def limits(visibility: Visibility | None) -> str:
    """`w,k` of each window, one within the other."""
    found = []
    while visibility is not None:
        found.append(f"{visibility.window},{visibility.sinks}")
        visibility = visibility.outer
    return " ".join(found)
