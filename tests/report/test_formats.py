"""Tables as others read them."""

from __future__ import annotations

import csv
import io

from extrapo.report.formats import FORMATS

ROWS = [{"length": "1,024", "k_cable": "1.50 ± 0.10"}, {"length": "64", "k_cable": "a|b"}]


def test_markdown() -> None:
    assert FORMATS["md"](ROWS) == "| length | k_cable |\n| ---: | ---: |\n| 1,024 | 1.50 ± 0.10 |\n| 64 | a\\|b |\n"


def test_latex() -> None:
    text = FORMATS["latex"](ROWS)
    assert text.startswith("\\begin{tabular}{rr}\n\\toprule\nlength & k\\_cable \\\\\n\\midrule\n")
    assert "1,024 & 1.50 $\\pm$ 0.10 \\\\\n" in text
    assert text.endswith("\\bottomrule\n\\end{tabular}\n")


def test_csv_reads_back() -> None:
    assert list(csv.DictReader(io.StringIO(FORMATS["csv"](ROWS)))) == ROWS
