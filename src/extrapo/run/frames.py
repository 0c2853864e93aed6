"""Rows of a curve as a data frame, where pandas is there: mlflow brings it, and the core does without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any


def frame(rows: Sequence[Mapping[str, Any]]) -> Any:
    """A `pandas.DataFrame` with a line per row; without pandas the rows themselves, a list of dicts."""
    plain = [dict(row) for row in rows]
    if find_spec("pandas") is None:
        return plain
    import pandas as pd

    return pd.DataFrame(plain)
