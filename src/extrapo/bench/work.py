"""Work: the floating-point operations that a run needs, and the share of what the device could do in its time.

Counted as for a model's FLOP utilisation (PaLM, Chowdhery et al., 2204.02311, appendix B), but attention over the keys
before each query alone; what is computed again in a backward pass does not count.
"""

from __future__ import annotations

import torch

from extrapo.bench.contenders import Case


def flops(case: Case, phase: str, parameters: int) -> float:
    """Of one run; a backward pass costs two forward passes.

    Args:
        case: what was run.
        phase: `forward`, `forward+backward`, `step` or `decode`.
        parameters: of the model, which has its embedding for an output layer; 0 for one layer's attention.
    """
    layers, width = (case.model[0], case.model[2]) if phase in ("step", "decode") else (1, case.dim)
    new, seen = (1, case.length) if phase == "decode" else (case.length, case.length * (case.length + 1) / 2)
    # Of one pair of tokens, q.k and p v: a multiplication and an addition for each number of the width.
    forward = case.batch * (2 * parameters * new + 4 * layers * width * seen)
    return forward if phase in ("forward", "decode") else 3 * forward


def utilisation(done: float, case: Case) -> float | None:
    """Operations a second over the device's own figure; None where that is not known."""
    if case.device == "cpu":
        return None
    # Seconds, of which a run on a CPU has no use.
    from lightning.fabric.utilities.throughput import get_available_flops

    try:
        most = get_available_flops(torch.device(case.device), getattr(torch, case.dtype))
    except RuntimeError:
        return None
    return None if most is None else done / most
