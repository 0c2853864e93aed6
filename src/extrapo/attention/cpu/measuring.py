"""Measuring: how long back ends take for one attention, forward, and backward where anything is trained.

All take turns in rounds, so that a busy moment of the machine meets each of them, and the shortest time of each counts:
what else goes on only adds to it. Where others hold the cores all the while, no time that passes says anything; then
the time counts that was spent on the cores, shared out among the threads.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from extrapo.attention.backend import Backend
from extrapo.encodings.core.bias import Elementwise

#: Rounds at most, and the seconds that all of them may take; one is made anyhow.
ROUNDS, SECONDS = 9, 4.0

#: Back ends that took so many times as long as the first are out after a round.
HOPELESS = 2.0

#: On a quiet machine the back end that shares its work out best has this much of the cores at least.
QUIET = 0.8


class Sample(NamedTuple):
    """Seconds that passed, and seconds on the cores over the number of threads."""

    passed: float
    worked: float

    def shortest(self, other: Sample) -> Sample:
        """The shorter one of each."""
        return Sample(min(self.passed, other.passed), min(self.worked, other.worked))


def measure(candidates: Sequence[Backend], bias: Elementwise, q: Tensor, k: Tensor) -> dict[str, float]:
    """Seconds of each back end, by its name, under a copy of the bias, for numbers drawn in the place of q, k and v.

    Args:
        candidates: back ends that serve.
        bias: the layer's bias; its numbers are copied, and no gradient reaches them.
        q, k: (B, H, T, d) each; what requires gradients here does so there.
    """
    # Asked first: to leave inference mode is to enable gradients.
    trained = trains(bias, q, k)
    with torch.inference_mode(False), torch.set_grad_enabled(trained):
        runs = {candidate.name: prepare(candidate, bias, q, k) for candidate in candidates}
        for run in runs.values():
            # Loops are compiled, and memory is fetched.
            run()
        best = dict.fromkeys(runs, Sample(math.inf, math.inf))
        began = time.perf_counter()
        for count in range(1, ROUNDS + 1):
            for name, run in runs.items():
                best[name] = best[name].shortest(sample(run))
            if (time.perf_counter() - began) * (count + 1) / count > SECONDS:
                break
            limit = HOPELESS * min(one.passed for one in best.values())
            runs = {name: run for name, run in runs.items() if best[name].passed <= limit}
        return seconds(best)


def sample(run: Callable[[], None]) -> Sample:
    """Of one run."""
    passed, worked = time.perf_counter(), time.process_time()
    run()
    return Sample(time.perf_counter() - passed, (time.process_time() - worked) / torch.get_num_threads())


def seconds(best: Mapping[str, Sample]) -> dict[str, float]:
    """What counts of the shortest times of each."""
    quiet = max(one.worked / one.passed for one in best.values()) >= QUIET
    return {name: one.passed if quiet else one.worked for name, one in best.items()}


def trains(bias: Elementwise, q: Tensor, k: Tensor) -> bool:
    """Whether there will be a backward pass."""
    return torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, *bias.tensors()))


def prepare(backend: Backend, bias: Elementwise, q: Tensor, k: Tensor) -> Callable[[], None]:
    """One attention, to be made again and again."""
    # A generator of their own: what the model draws afterwards is what it would have drawn.
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(x.shape, generator=generator).to(x.dtype) for x in (q, k, k)]
    tensors = [x.detach().clone() for x in bias.tensors()]
    trained = torch.is_grad_enabled()
    if trained:
        wanted = (q.requires_grad, k.requires_grad, k.requires_grad, *(x.requires_grad for x in bias.tensors()))
        for x, wants in zip([*inputs, *tensors], wanted, strict=True):
            x.requires_grad_(wants)
    leaves = [x for x in (*inputs, *tensors) if x.requires_grad]
    copied, scale = bias.rebuilt(tensors), 1 / math.sqrt(q.size(-1))

    def run() -> None:
        q, k, v = inputs
        out = backend(q, k, v, copied, scale=scale)
        if trained:
            torch.autograd.grad(out, leaves, torch.ones_like(out), allow_unused=True)

    return run
