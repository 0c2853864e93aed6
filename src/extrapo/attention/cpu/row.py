"""Row: one query on a CPU under a formula of single pairs, in one loop over its keys and values, each read once."""

from __future__ import annotations

import ctypes
from functools import lru_cache

import torch
from torch import Tensor

from extrapo.attention.backend import Backend, Verdict
from extrapo.attention.cpu.compiled_attention import compiling, formula_refusal, known_refusal, tokens_first
from extrapo.attention.cpu.factors import Factors
from extrapo.attention.cpu.library import library, shortcoming
from extrapo.attention.cpu.memory import keep_freed_memory
from extrapo.attention.cpu.openmp import on_all_threads
from extrapo.attention.cpu.private import is_tested, product
from extrapo.attention.cpu.source import source
from extrapo.attention.cpu.task import Task, Tensors
from extrapo.attention.recorded.formula import record_formula
from extrapo.attention.recorded.kinds import Kind
from extrapo.encodings.core.bias import Bias, Elementwise, NoBias
from extrapo.encodings.core.logit import Logit

#: Logits of the query, B x H x S, from which it pays.
MIN_LOGITS = 2**15
PAYS = f"it pays from {MIN_LOGITS:,} logits on"


class CPURow(Backend):
    """One query over all keys."""

    name = "cpu-row"
    compiles = True

    def serves(self, bias: Bias, q: Tensor, k: Tensor) -> Verdict:
        why = self.objection(bias, q, k)
        return Verdict(True, "one query: keys and values are read once") if why is None else Verdict(False, why)

    def objection(self, bias: Bias, q: Tensor, k: Tensor) -> str | None:
        """Why it does not serve; None where it does."""
        if not q.is_cpu or q.size(-2) > 1:
            return "it is for one query on a CPU"
        if torch.is_grad_enabled():
            return "it has no gradients"
        if isinstance(bias, NoBias):
            return "without a bias the stock attention is as fast"
        if not isinstance(bias, Elementwise):
            return "the encoding owns its logits"
        if q.dtype.itemsize < 4:
            return "keys in half precision would be copied"
        if torch.compiler.is_compiling() or type(q) is not Tensor:
            return "operations are only recorded here"
        if on_all_threads() is None:
            return "no OpenMP of GNU's is at hand"
        if not is_tested() or product(q.dtype) is None:
            return "this build of PyTorch is not one that it was tested with"
        seen = bias.visibility()
        if seen is not None and seen.outer is not None:
            return "it has one window"
        if (why := shortcoming()) is not None:
            return why
        of_pairs = bias.pointwise() or bias.cached_line() is None
        return formula_refusal(bias, q.dtype) if of_pairs else known_refusal(bias, q.dtype)

    def pays(self, bias: Bias, q: Tensor, k: Tensor) -> Verdict:
        return Verdict(q.size(0) * q.size(1) * k.size(2) >= MIN_LOGITS, PAYS)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, bias: Bias, *, scale: float) -> Tensor:
        assert isinstance(bias, Elementwise)
        parallel = on_all_threads()
        assert parallel is not None
        keep_freed_memory()
        batch, heads, _, _ = q.shape
        factors = Factors.of_row(bias, q.dtype)
        out = tokens_first(batch, heads, 1, v.size(-1), dtype=q.dtype)
        task = Task(
            factors, Tensors(q, k, v, out, torch.empty(batch, heads, 1, dtype=q.dtype)), scale, bias.visibility()
        )
        with compiling(bias, q.dtype):
            function = compiled_row(factors.logit, q.dtype, factors.kinds)
        parallel(function, task.address, min(torch.get_num_threads(), batch * heads), 0)
        return out


@lru_cache(maxsize=256)
def compiled_row(logit: Logit, dtype: torch.dtype, kinds: tuple[Kind, ...]) -> ctypes.c_void_p:
    """The function of a formula."""
    trained = (False,) * len(kinds)
    with torch.inference_mode(False), torch.no_grad():
        made = library(source(record_formula(logit, dtype, trained), dtype, kinds, trained, row=True))
    return ctypes.cast(made.attention_row, ctypes.c_void_p)
