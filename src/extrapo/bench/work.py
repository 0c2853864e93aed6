"""Work: the floating-point operations that a run needs, counted as in `extrapo.flops`, and the share of what the device
could do in its time.
"""

from __future__ import annotations

import torch

from extrapo.bench.contenders import Case
from extrapo.flops import forward_flops


def flops(case: Case, phase: str, parameters: int) -> float:
    """Of one run; a backward pass costs two forward passes.

    Args:
        case: what was run.
        phase: `forward`, `forward+backward`, `step` or `decode`.
        parameters: of the model, which has its embedding for an output layer; 0 for one layer's attention.
    """
    layers, width = (case.model[0], case.model[2]) if phase in ("step", "decode") else (1, case.dim)
    new, seen = (1, case.length) if phase == "decode" else (case.length, case.length * (case.length + 1) / 2)
    forward = case.batch * forward_flops(parameters, layers, width, tokens=new, pairs=seen)
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
