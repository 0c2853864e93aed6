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
from extrapo.evaluation.batches import batch_windows
from extrapo.evaluation.metric import LengthNLL, perplexity
from extrapo.evaluation.protocols import protocol

#: (B, L) inputs and (B, L) targets -> (B, L) negative log-likelihoods in nats.
Scorer = Callable[[Tensor, Tensor], Tensor]

#: Called with (length, batches done, batches of this rank).
Progress = Callable[[int, int, int], None]


@dataclass(frozen=True)
class Point:
    """The loss at one length.

    Args:
        length: tokens the model sees at once.
        nll: mean negative log-likelihood in nats; None where the model is not defined at this length.
        ppl: exp(nll).
        tokens: targets scored.
        protocol: name of the protocol.
        window: tokens of its largest window.
        stride: tokens the window moves by; None if that varies.
        windows: number of windows.
        description: the protocol in a few words.
        note: why there is no loss.
    """

    length: int
    nll: float | None
    ppl: float | None
    tokens: int
    protocol: str
    window: int
    stride: int | None
    windows: int
    description: str
    note: str | None = None

    def row(self) -> dict[str, Any]:
        """As a plain dict, the form in which curves are recorded; `note` only where there is one."""
        row = asdict(self)
        if self.note is None:
            del row["note"]
        return row


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
    """Score the same tokens at each length, through the windows of a protocol.

    Args:
        score: the model as a function of inputs and targets.
        tokens: (N,) token ids of the evaluation text.
        lengths: evaluation lengths in tokens.
        tokens_wanted: targets to score at most, see `Protocol.cover`.
        protocol_name: a name of PROTOCOLS.
        device: where the batches go.
        rank: this process among `ranks`, which share the windows out; all of them must call.
        progress: called after each batch.

    Raises:
        UserError: a length below 1, a text shorter than one window, an unknown protocol, or one that does not score
            each target once.
    """
    chosen = protocol(protocol_name)
    covered = chosen.cover(lengths, len(tokens), tokens_wanted)
    points: list[Point] = []
    for length in lengths:
        windows = covered[length]
        shares = [batch_windows(tokens, windows[one::ranks]) for one in range(ranks)]
        counted, passes = len(shares[rank]), max(map(len, shares))
        # Sharded weights come together only if all ranks take part: those with less to do look at the first window
        # again, whose losses do not count.
        batches = shares[rank] + batch_windows(tokens, windows[:1]) * (passes - counted)
        point = partial(
            Point,
            length,
            protocol=chosen.name,
            window=max(window.size for window in windows),
            stride=chosen.stride(length),
            windows=len(windows),
            description=chosen.description,
        )
        metric = LengthNLL().to(device)
        try:
            for done, batch in enumerate(batches, start=1):
                rows = batch.load().to(device)
                losses = score(rows[:, :-1], rows[:, 1:])
                metric.update(losses[:, batch.unscored :] if done <= counted else losses[:0])
                if progress is not None:
                    progress(length, done, len(batches))
        except NotApplicable as why:
            points.append(point(nll=None, ppl=None, tokens=0, note=str(why)))
            continue
        mean, count = metric.compute()
        points.append(point(nll=float(mean), ppl=perplexity(float(mean)), tokens=int(count)))
    return points
