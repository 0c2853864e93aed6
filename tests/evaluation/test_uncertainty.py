"""Intervals: they hold the truth as often as they say, and pairing tells what single intervals cannot."""

from __future__ import annotations

import math

import numpy as np
import pytest

from extrapo.errors import UserError
from extrapo.evaluation.uncertainty import (
    BLOCKS,
    DRAWS,
    BlockLosses,
    block_of,
    difference,
    differences,
    interval,
    resampled,
)

RNG = np.random.default_rng(1)


def texts(count: int, tokens: int, correlation: float) -> np.ndarray:
    """Losses around 3 nats, each a share of the one before: (count, tokens)."""
    noise = RNG.gamma(2.0, 1.0, size=(count, tokens))
    losses = np.empty_like(noise)
    losses[:, 0] = noise[:, 0]
    for i in range(1, tokens):
        losses[:, i] = correlation * losses[:, i - 1] + (1 - correlation) * noise[:, i]
    return losses + 1


def in_blocks(losses: np.ndarray) -> BlockLosses:
    block = block_of([range(1, 1 + len(losses))])[1:]
    return BlockLosses(
        tuple(np.bincount(block, losses, BLOCKS).tolist()), tuple(np.bincount(block, minlength=BLOCKS).tolist())
    )


@pytest.mark.parametrize("correlation", [0.0, 0.7])
def test_an_interval_holds_the_truth(correlation: float) -> None:
    """500 texts of 2,048 tokens, also of such whose losses go together; 90 to 97% is what 95% comes to."""
    held = 0
    for losses in texts(500, 2048, correlation):
        between = interval(in_blocks(losses))
        assert between is not None
        held += between.low <= 3.0 <= between.high
    assert 0.90 <= held / 500 <= 0.97


def test_pairs_tell_apart_what_single_intervals_do_not() -> None:
    (text,) = texts(1, 8192, 0.5)
    one, other = in_blocks(text), in_blocks(text + 0.01 + RNG.normal(0, 0.05, text.shape))
    first, second = interval(one), interval(other)
    assert first is not None
    assert second is not None
    assert first.high > second.low
    found = difference([one], [other])
    assert found.verdict == "lower"
    assert found.mean == pytest.approx(-0.01, abs=0.003)
    assert found.low <= found.mean <= found.high < 0
    assert difference([other], [one]).verdict == "higher"
    assert difference([one], [one]) == (0, 0, 0, "cannot tell")


def test_verdicts_on_equal_models_are_right_as_often_as_they_say() -> None:
    told = 0
    for text in texts(300, 1024, 0.3):
        one, other = (in_blocks(text + RNG.normal(0, 0.3, text.shape)) for _ in range(2))
        told += difference([one], [other]).verdict != "cannot tell"
    assert told / 300 <= 0.10


def test_seeds_that_differ_more_than_the_encodings_are_no_verdict() -> None:
    """Of 100 pairs of equal encodings, four seeds each that move the loss by 0.05 nats: seldom a verdict; ten times
    that between encodings is always one.
    """
    told = sure = 0
    for text in texts(100, 1024, 0.3):
        runs = [in_blocks(text + RNG.normal(0, 0.05) + RNG.normal(0, 0.1, text.shape)) for _ in range(8)]
        told += difference(runs[:4], runs[4:]).verdict != "cannot tell"
        apart = [BlockLosses(tuple(np.array(run.nll) + 0.5 * np.array(run.tokens)), run.tokens) for run in runs[4:]]
        sure += difference(runs[:4], apart).verdict == "lower"
    assert told / 100 <= 0.15
    assert sure == 100


def test_what_a_seed_does_to_both_tells_nothing() -> None:
    (text,) = texts(1, 2048, 0.3)
    ones = [in_blocks(text + shift + RNG.normal(0, 0.05, text.shape)) for shift in (0.0, 0.3, -0.2)]
    others = [BlockLosses(tuple(np.array(run.nll) + 0.01 * np.array(run.tokens)), run.tokens) for run in ones]
    assert difference(ones, others).verdict == "cannot tell"
    assert difference(ones, others, same_seeds=True).verdict == "lower"


def test_blocks_are_of_equally_many_targets_from_left_to_right() -> None:
    block = block_of([range(5, 105), range(200, 428)])
    of_targets = [*block[5:105], *block[200:428]]
    assert of_targets == sorted(of_targets)
    assert set(np.bincount(of_targets)) <= {5, 6}
    assert len(set(of_targets)) == BLOCKS
    assert block_of([range(1, 4)])[1:].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("seeds", "same"), [((1, 1), False), ((3, 3), True), ((3, 3), False), ((2, 4), False), ((1, 3), False)]
)
def test_an_interval_of_a_difference_is_that_of_the_bootstrap_written_out(seeds: tuple[int, int], same: bool) -> None:
    """Seeds and blocks drawn with replacement, one drawing after another, a loop over each; both widened by n over
    n - 1. What `differences` shares between pairs changes none of it.
    """
    groups = [[in_blocks(text) for text in texts(count, 512, 0.3)] for count in seeds]
    tokens = np.array(groups[0][0].tokens)
    of_seeds, of_blocks = np.random.default_rng(0), np.random.default_rng(1).integers(BLOCKS, size=(DRAWS, BLOCKS))
    # (DRAWS, N): how often each seed is drawn, of one group and then of the other; of the same seeds once.
    drawn = [of_seeds.multinomial(n, np.full(n, 1 / n), size=DRAWS) if n > 1 else None for n in seeds[: 2 - same]]
    means = []
    for draw, blocks in enumerate(of_blocks):
        losses = []
        for group, counts in zip(groups, drawn * 2, strict=False):
            sums = np.array([run.nll for run in group])
            n, mean = len(group), sums.mean(0)
            redrawn = mean if counts is None else np.repeat(sums, counts[draw], axis=0).mean(0)
            losses.append(mean + (redrawn - mean) * math.sqrt(n / (n - 1)) if n > 1 else mean)
        means.append((losses[0] - losses[1], blocks))
    centre = np.mean([apart.sum() / tokens.sum() for apart, _ in means])
    wider = math.sqrt(BLOCKS / (BLOCKS - 1))
    slow = [centre + (apart[blocks].sum() / tokens[blocks].sum() - centre) * wider for apart, blocks in means]
    found = difference(*groups, same_seeds=same)
    assert (found.low, found.high) == pytest.approx(np.quantile(slow, [0.025, 0.975]), rel=1e-9)
    shared = [resampled(group, after=0 if same else seeds[0]) for group in (groups[1], groups[1])]
    assert differences(resampled(groups[0]), shared) == [found, found]


def test_what_cannot_be_told() -> None:
    assert interval(BlockLosses((3.0,), (4,))) is None
    assert interval(BlockLosses((3.0, 0.0), (4, 0))) is None
    assert interval(BlockLosses((3.0, math.inf), (4, 4))) is None
    with pytest.raises(UserError, match="the same targets alone"):
        difference([BlockLosses((3.0, 1.0), (4, 4))], [BlockLosses((3.0, 1.0), (4, 5))])
    with pytest.raises(UserError, match="single block"):
        difference([BlockLosses((3.0,), (4,))], [BlockLosses((2.0,), (4,))])
