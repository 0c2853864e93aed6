"""Path: logits through Householder steps on a GPU, by the kernels of flash-linear-attention (PaTH, 2505.16381; MIT)."""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from extrapo.attention.backend import Backend, StepsAside, Verdict
from extrapo.attention.recorded.private import constant
from extrapo.encodings.core.bias import Bias, Rowwise

#: What the kernels are tested with by their authors; the steps themselves they round to float16.
DTYPES = (torch.bfloat16, torch.float16)

#: Widths of heads and of values that they have blocks for.
WIDTHS = (16, 32, 64, 128)

ABSENT = "flash-linear-attention is not installed (pip install 'extrapo[gpu]')"
SERVES = "flash-linear-attention's kernels, linear memory, gradients not to the bit; never run on a card"


@constant
def is_installed() -> bool:
    """Whether there is a flash-linear-attention."""
    return importlib.util.find_spec("fla") is not None


class Fla(Backend):
    """Queries go back in time chunk by chunk, between tiles of a fused attention."""

    name = "fla"
    compiles = True

    def serves(self, bias: Bias, q: Tensor, k: Tensor) -> Verdict:
        why = self.objection(bias, q, k)
        return Verdict(True, SERVES) if why is None else Verdict(False, why)

    def objection(self, bias: Bias, q: Tensor, k: Tensor) -> str | None:
        """Why it does not serve; None where it does."""
        if not q.is_cuda:
            return "it is for CUDA tensors"
        if not is_installed():
            return ABSENT
        if not isinstance(bias, Rowwise) or bias.householder() is None or q.size(-2) != k.size(-2):
            return "it is for logits through Householder steps alone, of a whole text"
        if q.dtype not in DTYPES or k.dtype != q.dtype:
            return "it rounds the steps to half precision: it is for q and k in bfloat16 or float16"
        if q.size(-1) not in WIDTHS:
            return f"it is for heads of {', '.join(map(str, WIDTHS))} numbers"
        return broken() or None

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, bias: Bias, *, scale: float) -> Tensor:
        steps = bias.householder() if isinstance(bias, Rowwise) else None
        assert steps is not None
        if why := broken():
            raise StepsAside(why)
        # (B, T, H, d) in memory as there.
        w, beta = steps.w.float().transpose(1, 2), steps.beta.float().transpose(1, 2)
        sizes = (x.transpose(1, 2).contiguous() for x in (q, k, v.to(q.dtype)))
        out, _ = kernels()(*sizes, w.contiguous(), beta.contiguous(), scale=scale)
        return out.transpose(1, 2).to(v.dtype)  # type: ignore[no-any-return]


@lru_cache(maxsize=1)
def kernels() -> Any:
    """Forward and backward, as a function of (B, T, H, d) tensors: q, k, v, w, beta (B, T, H)."""
    from fla.ops.path_attn.parallel import parallel_path_attn

    return parallel_path_attn


@constant
@lru_cache(maxsize=1)
def broken() -> str:
    """What an installed one has against this machine, in a line; empty where nothing."""
    try:
        kernels()
    except Exception as cause:  # it looks at the driver, at Triton and at much else
        line = next(iter(str(cause).splitlines()), "")
        return f"flash-linear-attention does not load: {type(cause).__name__}: {line}"
    return ""
