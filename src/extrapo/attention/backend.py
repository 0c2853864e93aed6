"""Backend: one exact way to compute attention under a bias. A new one is a file, and a line in the list of `attend`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

from torch import Tensor

from extrapo.encodings.core.bias import Bias
from extrapo.errors import MachineError


class Verdict(NamedTuple):
    """Whether a back end serves, and why, or why not, in one line."""

    serves: bool
    reason: str

    def __bool__(self) -> bool:
        return self.serves


class StepsAside(MachineError):
    """What a back end raises that finds out on its first pass that it cannot serve, as `serves` says from then on.

    `auto` goes on to the next one; whoever asked for this one is told.
    """


class Backend(ABC):
    """A way to compute attention. It knows no named encoding."""

    #: what `--impl` calls it.
    name: ClassVar[str]

    @abstractmethod
    def serves(self, bias: Bias, q: Tensor, k: Tensor) -> Verdict:
        """Whether it computes this attention, here and now: device, dtype, training or not included.

        Args:
            bias: the layer's bias, bound to q and k.
            q: (B, H, T, d) queries, the last T of S tokens.
            k: (B, H, S, d) keys.
        """

    def pays(self, q: Tensor, k: Tensor) -> bool:
        """Whether `auto` takes it where it serves: not where it costs more to set up than it saves."""
        return True

    @abstractmethod
    def __call__(self, q: Tensor, k: Tensor, v: Tensor, bias: Bias, *, scale: float) -> Tensor:
        """Causal attention with the logits of `bias`; (B, H, T, d), (B, H, S, d), (B, H, S, e) -> (B, H, T, e)."""
