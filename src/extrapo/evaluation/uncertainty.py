"""How sure a mean loss is: a bootstrap over blocks of the text (Künsch, 1989), paired between runs on the same text.

The losses of neighbouring tokens go together, so that it is not tokens that are drawn but stretches of text. These are
the same at every length and for every run: where two runs are compared, a stretch that is hard for both tells nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from extrapo.errors import UserError

#: Blocks that a text is cut into, as near as its targets allow.
BLOCKS = 64
#: Times that blocks are drawn anew.
DRAWS = 2000
LEVEL = 0.95

OTHER_TARGETS = "losses can be compared on the same targets alone, and these are of different ones"

Verdict = Literal["lower", "higher", "cannot tell"]


class BlockLosses(NamedTuple):
    """The losses of one length, in stretches of the same text.

    Args:
        nll: (M,) sums in nats.
        tokens: (M,) targets of each.
    """

    nll: tuple[float, ...]
    tokens: tuple[int, ...]

    @property
    def mean(self) -> float:
        """Nats per target."""
        return sum(self.nll) / sum(self.tokens)


class Interval(NamedTuple):
    """What the mean would be of another text of the kind, at LEVEL."""

    low: float
    high: float


class Difference(NamedTuple):
    """One mean loss less another, in nats, and whether that is more than chance."""

    mean: float
    low: float
    high: float
    verdict: Verdict


def block_of(targets: Sequence[range]) -> NDArray[np.int64]:
    """(last target + 1,) the block of each target, 0 elsewhere: BLOCKS stretches of equally many, or one per target."""
    count = sum(map(len, targets))
    number = np.minimum(np.arange(count) * BLOCKS // max(count, BLOCKS), BLOCKS - 1)
    block = np.zeros(targets[-1].stop, dtype=np.int64)
    block[np.concatenate([np.arange(stretch.start, stretch.stop) for stretch in targets])] = number
    return block


def interval(losses: BlockLosses) -> Interval | None:
    """Of the mean loss; None where there is one block alone."""
    return _interval(np.array([losses.nll]), np.array(losses.tokens))


def difference(one: Sequence[BlockLosses], other: Sequence[BlockLosses], *, same_seeds: bool = False) -> Difference:
    """`one` less `other`, each the losses of runs that differ in their seed alone: `lower` says that the loss is lower
    on other texts of the kind, and with other seeds as far as these tell. Of one seed each, it speaks of two models.

    Args:
        one, other: at least one each.
        same_seeds: the runs are of the same seeds in the same order: what a seed does to both tells nothing.

    Raises:
        UserError: losses of other targets, or of a single block.
    """
    tokens = {losses.tokens for losses in (*one, *other)}
    if len(tokens) > 1:
        raise UserError("losses can be compared on the same targets alone, and these are of different ones")
    sums = [np.array([losses.nll for losses in runs]) for runs in (one, other)]
    if same_seeds:
        apart = _of_other_seeds(sums[0] - sums[1], *_seeds_drawn(len(one)))
    else:
        drawn = _seeds_drawn(len(one), len(other))
        apart = _of_other_seeds(sums[0], drawn[0]) - _of_other_seeds(sums[1], drawn[1])
    between = _interval(apart, np.array(tokens.pop()))
    if between is None:
        raise UserError("the text is too short for a comparison: it is a single block")
    verdict: Verdict = "lower" if between.high < 0 else "higher" if between.low > 0 else "cannot tell"
    mean = np.mean([losses.mean for losses in one]) - np.mean([losses.mean for losses in other])
    return Difference(float(mean), *between, verdict)


@cache
def _seeds_drawn(*seeds: int) -> list[NDArray[np.float64]]:
    """(DRAWS, N) shares of the seeds, drawn with replacement, for each N: the same for every pair that is compared."""
    generator = np.random.default_rng(0)
    return [generator.multinomial(n, np.full(n, 1 / n), size=DRAWS) / n if n > 1 else np.ones((1, 1)) for n in seeds]


@cache
def _blocks_drawn(blocks: int) -> NDArray[np.float64]:
    """(DRAWS, M) how often each block is drawn, with replacement."""
    draws = np.random.default_rng(1).integers(blocks, size=(DRAWS, blocks))
    counts: NDArray[np.float64] = np.apply_along_axis(np.bincount, 1, draws, minlength=blocks).astype(np.float64)
    return counts


def _of_other_seeds(sums: NDArray[np.float64], drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    """(DRAWS, M) means over the seeds of (N, M), and wider as N instead of N - 1 makes them too narrow; the one seed as
    it is.
    """
    seeds = len(sums)
    if seeds == 1:
        return sums
    mean = sums.mean(0)
    means: NDArray[np.float64] = mean + np.sqrt(seeds / (seeds - 1)) * (drawn @ sums - mean)
    return means


def _interval(sums: NDArray[np.float64], tokens: NDArray[np.int64]) -> Interval | None:
    """Percentiles of the mean over blocks drawn with replacement, as far from the mean as n instead of n - 1 makes them
    too near.

    Args:
        sums: (DRAWS or 1, M) of each block, in nats.
        tokens: (M,) of each.
    """
    tokens, sums = tokens[tokens > 0], sums[:, tokens > 0]
    blocks = len(tokens)
    if blocks < 2 or not np.isfinite(sums).all():
        return None
    drawn = _blocks_drawn(blocks)
    means = np.einsum("dm,dm->d", drawn, np.broadcast_to(sums, drawn.shape)) / (drawn @ tokens)
    mean = sums.mean(0).sum() / tokens.sum()
    means = mean + (means - mean) * np.sqrt(blocks / (blocks - 1))
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))
