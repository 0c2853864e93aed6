"""The fastest of several back ends on this machine, measured once and kept on disk: no threshold is another machine's.

A number of each key inside the stock fused attention costs nothing on one processor, and three times the attention on
another, where compiled tiles cost a third more. Where several serve, each is timed with the text's own bias the first
time that an attention of this form and about this size is met (weights that underflow make some of them slow: numbers
made up would not do); all are exact, so that the choice moves results by rounding alone. EXTRAPO_MEASURE=0 in the
environment leaves it out: then the first that serves is taken.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path

import torch
from torch import Tensor

from extrapo.attention.backend import Backend, Verdict
from extrapo.attention.cpu import compiler
from extrapo.attention.cpu.fold import CPUFold
from extrapo.attention.cpu.measured import Seconds, load_or_measure, machine
from extrapo.attention.cpu.measuring import measure, trains
from extrapo.attention.cpu.tiles import CPUTiles
from extrapo.attention.fold import Fold
from extrapo.encodings.core.bias import Bias, Elementwise, NoBias

#: Sizes from which on a choice is as good for a longer text, or for more heads: all back ends grow with the square of
#: the length, and with the number of heads, and what they owe beside is far below that.
LONG, MANY = 4096, 64

Measure = Callable[[Sequence[Backend], Elementwise, Tensor, Tensor], Seconds]


class FastestOnCPU(Backend):
    """Hands on to the fastest of those that serve.

    Args:
        candidates: back ends to choose from.
        measure: times them, see `measuring.measure`.
        folder: where times are kept; None for the folder of compiled code.
    """

    name = "cpu-fastest"

    def __init__(
        self, candidates: Sequence[Backend] | None = None, measure: Measure = measure, folder: Path | None = None
    ) -> None:
        self.candidates = (CPUFold(), Fold(), CPUTiles()) if candidates is None else tuple(candidates)
        self.measure, self.folder = measure, folder
        #: Of every attention that was met, the fastest and why; None where there is nothing to choose.
        self._known: dict[str, Verdict | None] = {}
        self._lock = threading.Lock()

    def serves(self, bias: Bias, q: Tensor, k: Tensor) -> Verdict:
        if not q.is_cpu or not 1 < q.size(-2) == k.size(-2):
            return Verdict(False, "it is for a whole text on a CPU")
        if not isinstance(bias, Elementwise) or isinstance(bias, NoBias) or bias.visibility() is not None:
            return Verdict(False, "for no bias, for windows and for an encoding's own logits there is no choice")
        if q.size(0) * q.size(1) * q.size(2) ** 2 < compiler.MIN_LOGITS:
            return Verdict(False, "the text is too short for measuring to pay")
        if os.environ.get("EXTRAPO_MEASURE", "1") == "0":
            return Verdict(False, "measuring is switched off")
        # What is being traced has no time; a tensor of another class may hold no numbers.
        if torch.compiler.is_compiling() or type(q) is not Tensor:
            return Verdict(False, "nothing can be measured where operations are only recorded")
        if not compiler.has_compiler():
            return Verdict(False, "nothing is compiled here that could be faster")
        found = self._find(bias, q, k)
        if found is None:
            return Verdict(False, "there is nothing to choose from")
        fastest = found.backend
        assert fastest is not None
        verdict = fastest.serves(bias, q, k)
        return found if verdict else verdict

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, bias: Bias, *, scale: float) -> Tensor:
        verdict = self.serves(bias, q, k)
        assert verdict.backend is not None, verdict.reason
        return verdict.backend(q, k, v, bias, scale=scale)

    def _find(self, bias: Elementwise, q: Tensor, k: Tensor) -> Verdict | None:
        attention = describe(bias, q, k)
        with self._lock:
            if attention not in self._known:
                self._known[attention] = self._ask(attention, bias, q, k)
            return self._known[attention]

    def _ask(self, attention: str, bias: Elementwise, q: Tensor, k: Tensor) -> Verdict | None:
        served = {candidate.name: candidate for candidate in self.candidates if candidate.serves(bias, q, k)}
        if len(served) < 2:
            return None

        def timed() -> Seconds:
            return self.measure(tuple(served.values()), bias, q, k)

        seconds = load_or_measure(f"{attention}; {', '.join(served)}; {machine()}", timed, self.folder)
        name = min(served, key=lambda name: seconds.get(name, math.inf))
        others = "".join(f", {other} {took(s)}" for other, s in seconds.items() if other != name)
        return Verdict(True, f"measured here: {took(seconds[name])}{others}", served[name])


def took(seconds: float) -> str:
    """Time for people."""
    return f"{1e3 * seconds:,.0f} ms" if seconds >= 0.01 else f"{1e3 * seconds:.1f} ms"


def describe(bias: Elementwise, q: Tensor, k: Tensor) -> str:
    """The form of an attention and about how large it is, as a line that is the same in every process."""
    passes = "forward and backward" if trains(bias, q, k) else "forward"
    text = f"T {size(q.size(2), LONG)}, B x H {size(q.size(0) * q.size(1), MANY)}, d {q.size(3)}"
    mixed = ", autocast" if torch.is_autocast_enabled("cpu") else ""
    own = ", ".join((*form(bias), f"q {kind(q)}, k {kind(k)}"))
    return f"{passes}; {text}{mixed}; {torch.get_num_threads()} threads; {type(bias).__qualname__}: {own}"


def size(n: int, most: int) -> int:
    """The power of two that is nearest, as a ratio; at most `most`."""
    return min(most, int(2 ** round(math.log2(n))))


def form(bias: Bias) -> Iterator[str]:
    """What makes two biases two formulas: names of functions, switches, and of tensors what `kind` says."""
    for field in fields(bias):  # type: ignore[arg-type]
        value = getattr(bias, field.name)
        if isinstance(value, Tensor):
            yield f"{field.name} {kind(value)}"
        elif isinstance(value, Bias):
            yield f"{field.name} ({', '.join(form(value))})"
        elif isinstance(value, tuple) and all(isinstance(x, Tensor) for x in value):
            yield f"{field.name} ({', '.join(map(kind, value))})"
        elif isinstance(value, bool | str | torch.dtype):
            yield f"{field.name} {value}"
        elif callable(value):
            yield f"{field.name} {getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value))}"


def kind(x: Tensor) -> str:
    """Its dtype, which of its dimensions are 1, and whether it gets a gradient."""
    trained = " trained" if x.requires_grad and torch.is_grad_enabled() else ""
    shape = " ".join("1" if n == 1 else "n" for n in x.shape)
    return f"{str(x.dtype).removeprefix('torch.')} [{shape}]{trained}"
