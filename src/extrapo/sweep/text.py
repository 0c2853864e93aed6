"""Values, cells and durations as people read them."""

from __future__ import annotations

from collections.abc import Mapping


def format_value(value: object) -> str:
    """A value: of a sampled number four figures say enough."""
    return f"{value:.4g}" if isinstance(value, float) and len(str(value)) > 8 else str(value)


def format_cell(cell: Mapping[str, object]) -> str:
    """A cell in a line: its keys and what it has chosen for them."""
    return ", ".join(f"{key} {format_value(value)}" for key, value in cell.items())


def format_mean(mean: float, spread: float | None = None) -> str:
    """A mean with its standard deviation, to five figures."""
    text = f"{mean:,.5g}" if abs(mean) < 1e5 else f"{mean:,.0f}"
    return text if spread is None else f"{text} ± {spread:.2g}"


def format_duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
