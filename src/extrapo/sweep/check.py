"""What is told before anything is written: every mistake in a plan, its cells, and what they will cost."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable

from extrapo import encodings
from extrapo.config import RunConfig
from extrapo.data import prepare
from extrapo.errors import UserError
from extrapo.run.setup import check_names
from extrapo.sweep import cost
from extrapo.sweep.plan import Plan, Range, shown
from extrapo.sweep.slots import Slot
from extrapo.sweep.study import pruner, sampler
from extrapo.terminal import Output
from extrapo.terminal.sweep import plain

#: A grid of more cells than this asks whether it is meant.
MANY = 1000
#: Combinations of a search's values that are checked before it starts.
SAMPLES = 500


def check(plan: Plan, yes: bool) -> list[RunConfig]:
    """Every mistake that can be told before anything is written; the runs of the cells, or some that stand for them.

    Raises:
        UserError: with one line.
    """
    if plan.mode == "grid" and plan.size > MANY and not yes:
        raise UserError(f"the grid '{plan.name}' has {plan.size:,} cells: give `yes=True` if that is meant")
    sampler(plan)
    pruner(plan)
    cells = plan.cells() if plan.mode == "grid" else list(itertools.islice(plan.samples(), SAMPLES))
    if not cells:
        raise UserError("an empty grid: the conditions leave no cell")
    runs: list[RunConfig] = []
    built: set[str] = set()
    for cell in cells:
        run = plan.settings(cell)
        runs.append(run)
        try:
            check_names(run)
            ranks = run.devices if isinstance(run.devices, int) and run.devices > 0 else 1
            shape = run.resolved(ranks).gpt(run.vocab_size)
            keys = ("encoding", "encoding_options", "kernel", "heads", "dim", "train_length")
            identity = json.dumps({key: getattr(shape, key) for key in keys}, default=str)
            if identity in built:
                continue
            built.add(identity)
            options = {"kernel": shape.kernel, **shape.encoding_options}
            encodings.create(shape.encoding, heads=shape.heads, head_dim=shape.head_dim, dim=shape.dim, **options)
        except (UserError, ValueError) as cause:
            raise UserError(f"{' '.join(str(cause).split())}; in the cell {shown(cell)}") from cause
    return runs


def texts(runs: list[RunConfig], say: Callable[[str], None]) -> None:
    """Prepare every text once, so that the workers find it in the cache.

    Raises:
        UserError: a text in which the longest evaluation length of its runs does not fit.
    """
    longest: dict[tuple[str, str, int], int] = {}
    for run in runs:
        key = (run.data, run.tokenizer, run.vocab_size)
        longest[key] = max(longest.get(key, 0), run.seq_len, *(run.lengths or ()))
    for (data, tokenizer, size), length in longest.items():
        there = len(prepare(data, tokenizer=tokenizer, vocab_size=size, say=say).validation)
        if length + 1 > there:
            raise UserError(
                f"the validation text of '{data}' has {there:,} tokens, too few for the length {length:,}: ask for "
                "shorter ones (objective, lengths under fixed, seq_len)"
            )


def price(plan: Plan, runs: list[RunConfig], places: list[Slot], output: Output) -> None:
    """Print the cells and what they will cost."""
    cells = plan.cells() if plan.mode == "grid" else []
    for number, cell in enumerate(cells[:200]):
        output.say(f"{number:4}  {shown(cell)}")
    if len(cells) > 200:
        output.say(f"      ... and {len(cells) - 200:,} more")
    for key, values in plan.space.items() if plan.mode == "search" else ():
        output.say(f"{key}: {values if isinstance(values, Range) else ', '.join(map(plain, values))}")
    trials = len(cells) or plan.size
    rate = cost.speed(places[0].threads, bool(places[0].gpus))
    estimate = cost.estimate(runs, trials, rate)
    output.say(estimate.line(len(places)))
    output.document(
        {
            "study": plan.name,
            "cells": cells or trials,
            "tokens": estimate.tokens,
            "operations": estimate.operations,
            "seconds": estimate.seconds / len(places),
        }
    )
