"""Work: the floating-point operations that a run needs, counted as in `extrapo.flops`, and the share of what the device
could do in its time.
"""

from __future__ import annotations

import torch

from extrapo.bench.contenders import Case
from extrapo.flops import forward_flops, peak_flops


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
    """Operations a second over those of the device in half precision; None where these are not known, and for numbers
    of any other precision.
    """
    if case.device == "cpu" or case.dtype == "float32":
        return None
    most = peak_flops(torch.cuda.get_device_name(case.device))
    return None if most is None else done / most
