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


class Resampled(NamedTuple):
    """The mean loss of runs that differ in their seed alone, and what it would be of other texts and other seeds.

    Args:
        mean: of the runs, nats per target.
        drawn: (DRAWS,) of each drawing of seeds and blocks; None of a single block, or of losses that are not finite.
        tokens: targets of each block.
    """

    mean: float
    drawn: NDArray[np.float64] | None
    tokens: tuple[int, ...]


def interval(losses: BlockLosses) -> Interval | None:
    """Of the mean loss; None where there is one block alone."""
    drawn = _means(np.array([losses.nll]), np.array(losses.tokens))
    return None if drawn is None else Interval(*_percentiles(drawn))


def difference(one: Sequence[BlockLosses], other: Sequence[BlockLosses], *, same_seeds: bool = False) -> Difference:
    """`one` less `other`, each the losses of runs that differ in their seed alone: `lower` says that the loss is lower
    on other texts of the kind, and with other seeds as far as these tell. Of one seed each, it speaks of two models.

    Args:
        one, other: at least one each.
        same_seeds: the runs are of the same seeds in the same order: what a seed does to both tells nothing.

    Raises:
        UserError: losses of other targets, or of a single block.
    """
    return differences(resampled(one), [resampled(other, after=0 if same_seeds else len(one))])[0]


def resampled(runs: Sequence[BlockLosses], *, after: int = 0) -> Resampled:
    """The runs of a group on other texts of the kind and with other seeds; the same drawings for every group.

    Args:
        runs: at least one.
        after: seeds that are drawn before these, those of the group that they are held against; 0 for the first of two
            groups, and for both where their seeds are the same.

    Raises:
        UserError: losses of other targets.
    """
    tokens = {losses.tokens for losses in runs}
    if len(tokens) > 1:
        raise UserError(OTHER_TARGETS)
    (of_block,) = tokens
    sums = _of_other_seeds(np.array([losses.nll for losses in runs]), _seeds_drawn(len(runs), after))
    return Resampled(float(np.mean([losses.mean for losses in runs])), _means(sums, np.array(of_block)), of_block)


def differences(one: Resampled, others: Sequence[Resampled]) -> list[Difference]:
    """`one` less each of the others, see `difference`: a mean is linear in the losses, so that what was drawn of a
    group serves all its pairs.

    Raises:
        UserError: losses of other targets, or of a single block.
    """
    if any(other.tokens != one.tokens for other in others):
        raise UserError(OTHER_TARGETS)
    drawn = [other.drawn for other in others if other.drawn is not None]
    if one.drawn is None or len(drawn) < len(others):
        raise UserError("the text is too short for a comparison, a single block; or a loss is not finite")
    lows, highs = _percentiles(one.drawn - np.array(drawn))
    found = []
    for other, low, high in zip(others, lows.tolist(), highs.tolist(), strict=True):
        verdict: Verdict = "lower" if high < 0 else "higher" if low > 0 else "cannot tell"
        found.append(Difference(one.mean - other.mean, low, high, verdict))
    return found


@cache
def _seeds_drawn(seeds: int, after: int = 0) -> NDArray[np.float64]:
    """(DRAWS, N) shares of the seeds, drawn with replacement, after those of a group before: the same for every pair
    that is compared.
    """
    if seeds == 1:
        return np.ones((1, 1))
    generator = np.random.default_rng(0)
    if after > 1:
        generator.multinomial(after, np.full(after, 1 / after), size=DRAWS)
    return generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=DRAWS) / seeds


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


def _means(sums: NDArray[np.float64], tokens: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """(DRAWS,) means over blocks drawn with replacement, as far from the mean as n instead of n - 1 makes them too
    near; None of a single block, or of losses that are not finite.

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
    wider: NDArray[np.float64] = mean + (means - mean) * np.sqrt(blocks / (blocks - 1))
    return wider


def _percentiles(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    """(2,) or (2, P): the ends of the interval at LEVEL of (DRAWS,) or (P, DRAWS)."""
    ends: NDArray[np.float64] = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=-1)
    return ends
