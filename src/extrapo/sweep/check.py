"""Every mistake in a sweep that can be found before anything is written."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from extrapo.config import RunConfig
from extrapo.data import prepare
from extrapo.errors import UserError
from extrapo.gpt import stacks
from extrapo.location import Location
from extrapo.run.find import TOKENIZER, find_checkpoint, recorded_config, sibling_file
from extrapo.run.setup import check_names, device_count
from extrapo.sweep.spec import SweepSpec
from extrapo.sweep.study import pruner, sampler
from extrapo.sweep.text import format_cell

#: A grid of more cells than this asks whether it is meant.
MANY = 1000
#: Combinations of a search's values that are checked before it starts.
SAMPLES = 500


def check(spec: SweepSpec, *, many: bool) -> list[RunConfig]:
    """Every mistake that can be found before anything is written; the runs of the cells, or some that stand for them.

    Args:
        spec: the sweep.
        many: a grid of more than MANY cells is meant.

    Raises:
        UserError: with one line.
    """
    if spec.mode == "grid" and spec.size > MANY and not many:
        raise UserError(f"the grid '{spec.name}' has {spec.size:,} cells: give `many=True` if that is meant")
    sampler(spec)
    pruner(spec)
    cells = spec.cells() if spec.mode == "grid" else list(itertools.islice(spec.samples(), SAMPLES))
    if not cells:
        raise UserError("an empty grid: the conditions leave no cell")
    runs: list[RunConfig] = []
    built: set[str] = set()
    for cell in cells:
        run = spec.settings(cell)
        runs.append(run)
        try:
            check_names(run)
            ranks = run.devices if isinstance(run.devices, int) and run.devices > 0 else 1
            shape = run.resolved(ranks).gpt(run.vocab_size)
            if repr(shape) not in built:
                built.add(repr(shape))
                stacks(shape)
        except (UserError, ValueError) as cause:
            raise UserError(f"{' '.join(str(cause).split())}; in the cell {format_cell(cell)}") from cause
    return runs


def check_machine(runs: list[RunConfig]) -> None:
    """Whether this machine has what the runs ask for: every trial would fail otherwise, one by one.

    Raises:
        UserError: it has not.
    """
    for run in {(run.accelerator, run.devices, run.precision): run for run in runs}.values():
        device_count(run)


def check_starts(runs: list[RunConfig], location: Location) -> None:
    """Whether the runs that training is to start from are there: every trial would fail otherwise.

    Raises:
        UserError: one is not, or has no checkpoint, configuration or tokenizer.
    """
    for named in sorted({run.init for run in runs if run.init is not None}):
        try:
            checkpoint = find_checkpoint(named, location)
            recorded_config(checkpoint)
            sibling_file(checkpoint, TOKENIZER)
        except UserError as cause:
            raise UserError(f"init: {cause}") from cause


def prepare_texts(runs: list[RunConfig], say: Callable[[str], None]) -> None:
    """Prepare every text once, so that the workers find it in the cache.

    Raises:
        UserError: a text in which the longest evaluation length of its runs does not fit.
    """
    longest: dict[tuple[str, str, int], int] = {}
    for run in runs:
        key = (run.data, run.tokenizer, run.vocab_size)
        longest[key] = max(longest.get(key, 0), run.seq_len, *(run.lengths or ()))
    for (data, tokenizer, size), length in longest.items():
        tokens = len(prepare(data, tokenizer=tokenizer, vocab_size=size, say=say).validation)
        if length + 1 > tokens:
            raise UserError(
                f"the validation text of '{data}' has {tokens:,} tokens, too few for the length {length:,}: ask for "
                "shorter ones (objective, lengths under fixed, seq_len)"
            )
