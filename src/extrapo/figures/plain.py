"""Matplotlib's own settings while something is drawn, whoever left a matplotlibrc: one's own, or another's in a folder
that all share.

Pictures are alike everywhere; and LaTeX, which many have set their text, ends in a name such as `cable_weighted`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def plainly() -> Iterator[None]:
    """What is drawn in the block, or by the function that this decorates, has no settings of anybody's."""
    from matplotlib import style

    with style.context("default"):
        yield
