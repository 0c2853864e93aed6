"""The picture of a task without places says what each score is."""

from __future__ import annotations

from extrapo import figures
from extrapo.figures.scores import scores_figure


def test_each_score_is_named_and_one_without_a_result_stays_blank(texts):
    rows = [
        {"length": 200, "score": "acc", "accuracy": 0.3, "low": 0.2, "high": 0.4, "chance": 0.25},
        {"length": 200, "score": "acc_norm", "accuracy": None, "low": None, "high": None, "chance": 0.25},
    ]
    figure = scores_figure(rows, title="rope: hellaswag")
    said = texts(figure)
    for part in ("rope: hellaswag", "200\nacc\n30%", "200\nacc_norm\n-", "chance"):
        assert part in said
    assert figures.to_array(figure).std() > 0
