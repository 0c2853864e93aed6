"""Rows of unequal keys and values that JSON has no number for, as a table."""

from __future__ import annotations

import csv
import io
import math

from extrapo.tracking import tables

ROWS = [{"length": 64, "nll": 1.5}, {"length": 128, "nll": math.inf, "note": "far"}]


def test_a_table_has_the_keys_of_all_rows_and_no_infinity() -> None:
    assert tables.table(ROWS) == {"columns": ["length", "nll", "note"], "data": [[64, 1.5, None], [128, None, "far"]]}
    assert tables.finite({"a": [math.nan, (1.0, -math.inf)]}) == {"a": [None, [1.0, None]]}


def test_csv_leaves_empty_what_a_row_lacks() -> None:
    read = list(csv.DictReader(io.StringIO(tables.csv_text(ROWS))))
    assert read == [{"length": "64", "nll": "1.5", "note": ""}, {"length": "128", "nll": "inf", "note": "far"}]
