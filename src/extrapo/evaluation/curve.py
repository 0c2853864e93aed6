"""The extrapolation curve: loss against length, under a named protocol, on the same tokens at every length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from extrapo.errors import NotApplicable
from extrapo.evaluation.batches import batch_windows
from extrapo.evaluation.metric import BlockNLL
from extrapo.evaluation.protocols import Protocol, protocol
from extrapo.evaluation.reading import Reading
from extrapo.evaluation.uncertainty import BLOCKS, BlockLosses, interval
from extrapo.evaluation.units import bits_per_byte, perplexity

#: (B, L) inputs and (B, L) targets -> (B, L) negative log-likelihoods in nats.
Scorer = Callable[[Tensor, Tensor], Tensor]

#: Called with (length, batches done, batches of this rank).
Progress = Callable[[int, int, int], None]


class PositionLoss(NamedTuple):
    """The loss of the targets at some positions of all windows; a position is how many tokens it is predicted from.

    Args:
        first, last: the positions.
        nll: mean negative log-likelihood in nats; None where no target stands there.
        low, high: see Point.
        tokens: targets.
    """

    first: int
    last: int
    nll: float | None
    low: float | None
    high: float | None
    tokens: int


@dataclass(frozen=True)
class Point:
    """The loss at one length.

    Args:
        length: tokens the model sees at once.
        nll: mean negative log-likelihood in nats; None where the model is not defined at this length.
        ppl: exp(nll).
        bits_per_byte: the same per byte of text, whatever the tokenizer; None where bytes are not known.
        low, high: the mean on other texts of the kind, at 95%, see `uncertainty`; None where it cannot be told.
        tokens: targets scored.
        protocol: name of the protocol.
        window: tokens of its largest window.
        stride: tokens the window moves by; None if that varies.
        windows: number of windows.
        description: the protocol in a few words.
        targets: the first and the last target, as places in the text: with number and protocol, which ones they are.
        documents: how many have a target; None where they cannot be told apart.
        scope: `text`, windows run over the borders of documents, or `document`, they stay within.
        start_token: what stands before the first target of each window, see Reading.
        dtype: of the weights that it was measured with.
        note: why there is no loss.
        positions: the loss by position in the window, where the protocol tells positions apart.
        blocks: the losses in stretches of the text, for comparisons; not part of a row.
    """

    length: int
    nll: float | None
    ppl: float | None
    bits_per_byte: float | None
    low: float | None
    high: float | None
    tokens: int
    protocol: str
    window: int
    stride: int | None
    windows: int
    description: str
    targets: str
    documents: int | None = None
    scope: str = "text"
    start_token: str = "none"
    dtype: str = "float32"
    note: str | None = None
    positions: tuple[PositionLoss, ...] = ()
    blocks: BlockLosses | None = field(default=None, repr=False)

    def row(self) -> dict[str, Any]:
        """As a plain dict, the form in which curves are recorded; `note` and `positions` only where there are any."""
        row = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "blocks"}
        row["positions"] = [one._asdict() for one in self.positions]
        return {key: value for key, value in row.items() if value or key not in ("note", "positions")}


@torch.no_grad()
def extrapolation_curve(
    score: Scorer,
    tokens: np.ndarray[Any, Any],
    lengths: Sequence[int],
    *,
    tokens_wanted: int,
    protocol_name: str | Protocol = "disjoint",
    token_bytes: np.ndarray[Any, Any] | None = None,
    reading: Reading = Reading(),  # noqa: B008
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
        protocol_name: a name of PROTOCOLS, or a protocol.
        token_bytes: (V,) bytes of text that each token stands for, see `Tokenizer.token_bytes`.
        reading: over the borders of documents or not, and what stands before a window.
        device: where the batches go.
        rank: this process among `ranks`, which share the windows out; all of them must call.
        progress: called after each batch.

    Raises:
        UserError: a length below 1, a text shorter than one window, an unknown protocol, or one that does not score
            each target once.
    """
    asked = protocol(protocol_name) if isinstance(protocol_name, str) else protocol_name
    chosen = reading.protocol(asked, tokens)
    covered = chosen.cover(lengths, len(tokens), tokens_wanted)
    targets = [window.targets for window in sorted(covered[lengths[0]], key=lambda window: window.first_target)]
    block, documents = chosen.block_of(targets), reading.count(tokens, targets)
    number = max(BLOCKS, int(block.max()) + 1)
    size = None if token_bytes is None else sum(int(token_bytes[tokens[one.start : one.stop]].sum()) for one in targets)
    points: list[Point] = []
    for length in lengths:
        windows = covered[length]
        shares = [batch_windows(tokens, windows[one::ranks], reading.first) for one in range(ranks)]
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
            targets=f"{targets[0].start}-{targets[-1].stop - 1}",
            documents=documents,
            scope="document" if reading.by_document else "text",
            start_token=reading.start_token,
            dtype=reading.dtype,
        )
        bins, bin_of = chosen.bins(length), torch.from_numpy(chosen.bin_of(length)).to(device)
        cells = max(1, len(bins))
        metric = BlockNLL(number * cells).to(device)
        try:
            for done, batch in enumerate(batches, start=1):
                rows = batch.load().to(device)
                losses = score(rows[:, :-1], rows[:, 1:])
                rows_counted = len(rows) if done <= counted else 0
                scored = losses[:rows_counted, batch.unscored :]
                blocks = batch.of_targets(block)[:rows_counted].to(device)
                metric.update(scored, blocks * cells + bin_of[batch.unscored : losses.size(1)])
                if progress is not None:
                    progress(length, done, len(batches))
        except NotApplicable as why:
            points.append(point(nll=None, ppl=None, bits_per_byte=None, low=None, high=None, tokens=0, note=str(why)))
            continue
        nll, counts = (of_cells.view(-1, cells) for of_cells in metric.compute())
        by_position = tuple(
            _at_positions(one, BlockLosses(tuple(of_bin.tolist()), tuple(count.tolist())))
            for one, of_bin, count in zip(bins, nll.T, counts.T, strict=False)
        )
        points.append(_measured(partial(point, positions=by_position), nll.sum(1), counts.sum(1), size))
    return points


def _at_positions(positions: range, blocks: BlockLosses) -> PositionLoss:
    between, count = interval(blocks), sum(blocks.tokens)
    low, high = (None, None) if between is None else between
    return PositionLoss(positions.start, positions.stop - 1, blocks.mean if count else None, low, high, count)


def _measured(point: Callable[..., Point], nll: Tensor, tokens: Tensor, size: int | None) -> Point:
    """The point of these losses, block by block, of a text of so many bytes."""
    blocks = BlockLosses(tuple(nll.tolist()), tuple(tokens.tolist()))
    count = int(tokens.sum())
    mean = float(nll.sum() / count)
    between = interval(blocks)
    return point(
        nll=mean,
        ppl=perplexity(mean),
        bits_per_byte=bits_per_byte(mean * count, size) if size else None,
        low=None if between is None else between.low,
        high=None if between is None else between.high,
        tokens=count,
        blocks=blocks,
    )
