"""The gradients of a model as one number."""

from __future__ import annotations

from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.utils import get_total_norm


def gradient_norm(model: nn.Module) -> Tensor | None:
    """The norm of all gradients as one vector, also of weights that several ranks share out, all of which must call;
    None where there are no gradients.
    """
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    if not gradients:
        return None
    norm = get_total_norm(gradients)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm
