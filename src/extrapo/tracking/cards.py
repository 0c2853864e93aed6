"""Charts, pictures and sections in the words of MLflow's page, whose state a saved view is.

The page heads a chart with its metric, and words the axes itself: what has to be read stands in a section's title.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

Card: TypeAlias = dict[str, Any]


#: Of a ratio whose flat is 1, on a linear axis: what is far off would leave one line of all that is not.
NEAR_ONE = (0.8, 2.0)


def line(
    section: str,
    *metrics: str,
    against: str | None = None,
    log_x: bool = False,
    within: tuple[float, float] | None = None,
) -> Card:
    """One or several metrics as lines, a dash each.

    Perplexity and loss alike are drawn on a logarithmic axis: on a linear one the page begins a mean's band at 0.

    Args:
        section: title of the section that it stands in.
        metrics: their names.
        against: the metric whose value is the abscissa; None is the step.
        log_x: whether steps are on a logarithmic axis.
        within: ordinates from and to, on a linear axis; None is all of them on a logarithmic one.
    """
    step_axis = {"xAxisKey": "step", "selectedXAxisMetricKey": ""}
    return _card("LINE", "|".join((section, *metrics)), section) | {
        "metricKey": metrics[0],
        "selectedMetricKeys": list(metrics),
        "xAxisScaleType": "log" if log_x else "linear",
        "scaleType": "linear" if within else "log",
        "lineSmoothness": 0,
        # Points of several lines would hide their dashes.
        "displayPoints": len(metrics) == 1,
        "useGlobalXaxisKey": False,
        "useGlobalLineSmoothing": False,
        **({"xAxisKey": "metric", "selectedXAxisMetricKey": against} if against else step_axis),
        "range": {"yMin": within[0], "yMax": within[1]} if within else {},
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "ignoreOutliers": False,
    }


def hidden(metric: str) -> Card:
    """Keeps the page from making a chart of a metric by itself."""
    return line("", metric) | {"deleted": True}


def pictures(section: str, key: str, step: int) -> Card:
    """The pictures of a key, one per run, with a slider over the steps."""
    return _card("IMAGE", key, section) | {"imageKeys": [key], "step": step, "showRunParams": False}


def section(title: str, columns: int = 2, height: int = 420, *, shown: bool = True) -> dict[str, Any]:
    """A part of the page with so many cards in a row; not shown, its title alone is there.

    One that is called as a metric begins, up to the slash, also takes the charts that the page makes by itself.
    """
    state = {"uuid": title, "name": title, "display": shown, "isReordered": True, "deleted": False}
    return {**state, "columns": columns, "cardHeight": height}


def page(cards: Sequence[Card], sections: Sequence[dict[str, Any]], columns: dict[str, int]) -> dict[str, Any]:
    """The state of the page: all runs, charts, and the columns of the table with their width in pixels."""
    return {
        "compareRunCharts": list(cards),
        "compareRunSections": list(sections),
        "isAccordionReordered": True,
        "selectedColumns": list(columns),
        "columnOrder": list(columns),
        "columnWidths": columns,
        "runsHiddenMode": "SHOW_ALL",
        "hideEmptyCharts": True,
    }


def grouped(state: dict[str, Any], tag: str) -> dict[str, Any]:
    """The same page with runs that share a tag's value as one: their mean, and a band from the least to the most."""
    return state | {
        "groupBy": {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": tag}]},
        "useGroupedValuesInCharts": True,
        "groupsExpanded": {},
    }


def _card(kind: str, key: str, section: str) -> Card:
    identity = {"uuid": key, "type": kind, "metricSectionId": section}
    return identity | {"deleted": False, "isGenerated": False, "runsCountToCompare": 10}
