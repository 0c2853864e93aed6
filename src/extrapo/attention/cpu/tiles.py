"""Tiles on all cores: an autograd graph of each tile, from what the encoding wrote."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from extrapo.attention.backend import Backend, Verdict
from extrapo.attention.cpu.memory import keep_freed_memory
from extrapo.attention.cpu.parallel import balanced_groups, parallel_groups, worker_count
from extrapo.attention.tiles import attend_by_tiles
from extrapo.encodings.core.bias import Bias


class CPUTiles(Backend):
    """Blocks of query rows, each made by one thread from first to last."""

    name = "cpu-tiles"

    def serves(self, bias: Bias, q: Tensor, k: Tensor) -> Verdict:
        if not q.is_cpu:
            return Verdict(False, "it is for a CPU")
        if q.size(-2) == 1:
            return Verdict(False, "one query has no tiles")
        return Verdict(True, "blocks of query rows on all cores, linear memory")

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, bias: Bias, *, scale: float) -> Tensor:
        keep_freed_memory()
        return attend_by_tiles(q, k, v, bias, scale, run_in_parallel, in_groups)


def run_in_parallel(work: Callable[[int, slice], None], groups: Sequence[Sequence[slice]]) -> None:
    """The runner of all threads."""
    count = worker_count(sum(len(group) for group in groups))
    parallel_groups(lambda worker, group, rows: work(group, rows), groups, count)


def in_groups(tiles: Sequence[slice]) -> Sequence[Sequence[slice]]:
    """Tiles, the longest first, in groups for all threads."""
    return balanced_groups(tiles, worker_count(len(tiles)))
