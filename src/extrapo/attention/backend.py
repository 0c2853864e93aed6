"""Backend: one exact way to compute attention under a bias. A new one is a file, and its place in BACKENDS."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar, NamedTuple

from torch import Tensor

from extrapo.encodings.core.bias import Bias
from extrapo.errors import MachineError
from extrapo.registry import Registry


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
    #: whether a first pass compiles something, which takes seconds.
    compiles: ClassVar[bool] = False

    @abstractmethod
    def serves(self, bias: Bias, q: Tensor, k: Tensor) -> Verdict:
        """Whether it computes this attention, here and now: device, dtype, training or not included.

        Args:
            bias: the layer's bias, bound to q and k.
            q: (B, H, T, d) queries, the last T of S tokens.
            k: (B, H, S, d) keys.
        """

    def pays(self, bias: Bias, q: Tensor, k: Tensor) -> Verdict:
        """Whether `auto` takes it where it serves: not where it costs more to set up than it saves. It is asked first,
        for to know whether it serves, something may have to be set up.
        """
        return Verdict(True, "it costs nothing to set up")

    @abstractmethod
    def __call__(self, q: Tensor, k: Tensor, v: Tensor, bias: Bias, *, scale: float) -> Tensor:
        """Causal attention with the logits of `bias`; (B, H, T, d), (B, H, S, d), (B, H, S, e) -> (B, H, T, e)."""


#: Those of other packages; those of this one stand in BACKENDS.
registered: Registry[Backend] = Registry("back end", "extrapo.backends")


def of_other_packages(ours: Iterable[Backend]) -> tuple[Backend, ...]:
    """One of each that other packages announce, by name; a broken one is warned of, and left out."""
    taken, others = {backend.name for backend in ours}, []
    for name in registered.names():
        cls = registered.get(name)
        with registered.loading(name, f"{cls.__module__}:{cls.__qualname__}"):
            made = cls()
            if not isinstance(made, Backend):
                raise TypeError("it is no Backend")
            if made.name != name:
                raise ValueError(f"it calls itself '{made.name}'")
            if name in taken:
                raise ValueError("there is one of this name already")
            others.append(made)
    return tuple(others)
