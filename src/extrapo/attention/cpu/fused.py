"""Fused attention on a CPU: any formula of single pairs, compiled into the loop between the two products."""

from __future__ import annotations

import torch
from torch import Tensor

from extrapo.attention.backend import Backend, Verdict
from extrapo.attention.cpu.compiled_attention import compiled_attention, refusal
from extrapo.attention.cpu.library import shortcoming
from extrapo.attention.cpu.memory import keep_freed_memory
from extrapo.attention.cpu.private import is_tested, product
from extrapo.encodings.core.bias import Bias, Elementwise
from extrapo.encodings.core.turned import TurnedRows

#: Logits of an attention, B x H x T x S, from which compiling pays: a second for each formula, once on a machine.
MIN_LOGITS = 2**20
PAYS = f"a compiler pays from {MIN_LOGITS:,} logits on"


class CPUFused(Backend):
    """Tiles that stay near a core, made by compiled loops."""

    name = "cpu-fused"
    compiles = True

    def serves(self, bias: Bias, q: Tensor, k: Tensor) -> Verdict:
        why = self.objection(bias, q, k)
        reason = "a formula of each pair: tiles near a core, linear memory; the first pass compiles its loops, a second"
        return Verdict(True, reason) if why is None else Verdict(False, why)

    def objection(self, bias: Bias, q: Tensor, k: Tensor) -> str | None:
        """Why it does not serve; None where it does."""
        if not q.is_cpu or q.size(-2) == 1:
            return "it is for more than one query on a CPU"
        if not isinstance(bias, Elementwise | TurnedRows):
            return "the encoding owns its logits"
        if torch.compiler.is_compiling() or type(q) is not Tensor:
            return "operations are only recorded here"
        dtype = torch.promote_types(q.dtype, torch.float32)
        if not is_tested() or product(dtype) is None:
            return "this build of PyTorch is not one that it was tested with"
        seen = bias.visibility()
        if seen is not None and seen.outer is not None:
            return "it has one window"
        # What takes time is asked last: a trial of the compiler, and the recording of the formula.
        return shortcoming() or refusal(bias, dtype)

    def pays(self, bias: Bias, q: Tensor, k: Tensor) -> Verdict:
        return Verdict(q.size(0) * q.size(1) * q.size(2) * k.size(2) >= MIN_LOGITS, PAYS)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, bias: Bias, *, scale: float) -> Tensor:
        assert isinstance(bias, Elementwise | TurnedRows)
        keep_freed_memory()
        return compiled_attention(q, k, v, bias, scale)
