"""The extrapolation curve: loss against length, under a named protocol, on the same tokens at every length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from extrapo.errors import NotApplicable
from extrapo.evaluation.metric import LengthNLL, perplexity
from extrapo.evaluation.protocols import protocol, tokens_to_score

#: (B, L) inputs and (B, L) targets -> (B, L) negative log-likelihoods in nats.
Scorer = Callable[[Tensor, Tensor], Tensor]

#: Called with (length, batches done, batches of this rank).
Progress = Callable[[int, int, int], None]

#: Tokens in one forward pass of short windows.
BATCH_TOKENS = 4096


@dataclass(frozen=True)
class Point:
    """The loss at one length.

    Args:
        length: tokens the model sees at once.
        nll: mean negative log-likelihood in nats; None where the model is not defined at this length.
        ppl: exp(nll).
        tokens: targets scored.
        protocol: name of the protocol.
        window: the protocol's window in tokens.
        stride: tokens the window moves by.
        windows: number of windows.
        note: why there is no loss.
    """

    length: int
    nll: float | None
    ppl: float | None
    tokens: int
    protocol: str
    window: int
    stride: int
    windows: int
    note: str | None = None

    def row(self) -> dict[str, Any]:
        """As a plain dict, the form in which curves are recorded; `note` only where there is one."""
        row = asdict(self)
        if self.note is None:
            del row["note"]
        return row


def batches(tokens: np.ndarray[Any, Any], length: int, starts: Sequence[int]) -> list[Callable[[], Tensor]]:
    """The windows of `length` + 1 tokens at `starts`, in batches (B, L + 1) int64 that are made when called.

    A batch is about BATCH_TOKENS tokens, one window at least.
    """
    size = max(1, BATCH_TOKENS // length)

    def make(group: Sequence[int]) -> Tensor:
        rows = [np.asarray(tokens[start : start + length + 1], dtype=np.int64) for start in group]
        return torch.from_numpy(np.stack(rows))

    return [partial(make, starts[i : i + size]) for i in range(0, len(starts), size)]


@torch.no_grad()
def extrapolation_curve(
    score: Scorer,
    tokens: np.ndarray[Any, Any],
    lengths: Sequence[int],
    *,
    tokens_wanted: int,
    protocol_name: str = "disjoint",
    device: torch.device | str = "cpu",
    rank: int = 0,
    ranks: int = 1,
    progress: Progress | None = None,
) -> list[Point]:
    """Score the same tokens in windows of each length.

    Args:
        score: the model as a function of inputs and targets.
        tokens: (N,) token ids of the evaluation text.
        lengths: evaluation lengths in tokens.
        tokens_wanted: targets to score at most, see `tokens_to_score`.
        protocol_name: a name of PROTOCOLS.
        device: where the batches go.
        rank: this process among `ranks`, which share the windows out; all of them must call.
        progress: called after each batch.

    Raises:
        UserError: a length below 1, an unknown protocol, or a text shorter than one window.
    """
    scored = tokens_to_score(list(lengths), len(tokens), tokens_wanted)
    points: list[Point] = []
    for length in lengths:
        plan = protocol(protocol_name, length)
        starts = list(plan.windows(scored))
        mine = starts[rank::ranks]
        # A rank without a window looks at the first one all the same: it must meet the same NotApplicable.
        made = batches(tokens, length, mine or starts[:1])
        point = partial(Point, length, protocol=plan.name, window=length, stride=plan.stride, windows=len(starts))
        metric = LengthNLL().to(device)
        try:
            for done, make in enumerate(made, start=1):
                batch = make().to(device)
                losses = score(batch[:, :-1], batch[:, 1:])
                metric.update(losses if mine else losses[:0])
                if progress is not None:
                    progress(length, done, len(made))
        except NotApplicable as why:
            points.append(point(nll=None, ppl=None, tokens=0, note=str(why)))
            continue
        mean, count = metric.compute()
        points.append(point(nll=float(mean), ppl=perplexity(float(mean)), tokens=int(count)))
    return points
