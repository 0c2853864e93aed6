"""The numbers of a report stand under the heading that they belong to."""

from __future__ import annotations

import math

from extrapo.report.results import perplexities
from extrapo.report.subject import Subject


def test_a_ratio_is_that_of_the_length_in_its_heading() -> None:
    long = Subject("long", [], [{"length": 64, "ppl": 2.0}, {"length": 512, "ppl": 5.0}])
    short = Subject("short", [], [{"length": 64, "ppl": 2.0}, {"length": 128, "ppl": 3.0}])
    broken = Subject("broken", [], [{"length": 64, "ppl": 2.0}, {"length": 512, "ppl": math.nan}])
    table = perplexities([long, short, broken], 64)
    assert [row["512 over T"] for row in table.rows] == ["2.500", "-", "nan"]
    assert "- where not every run" in table.caption
    assert "- where" not in perplexities([long], 64).caption
