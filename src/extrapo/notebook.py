"""What the notebooks share: where recorded runs are found, which of them are shown, and a figure in a cell."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from extrapo import figures, tracking
from extrapo.errors import UserError
from extrapo.location import Location
from extrapo.run.compare import Comparison, compare
from extrapo.tracking import RecordedRun

#: Where runs are looked for, where nobody says.
PLACES = ("runs", "../runs")
SWEEP = "extrapo.sweep"


def finished(command: str, root: Path | str | None = None, *, sweep: str | None = None) -> list[RecordedRun]:
    """The finished runs with a curve, newest first; where there are none, it is said what makes some.

    Args:
        command: what makes such runs.
        root: their folder; None for the one that `EXTRAPO_ROOT` names, or for `runs`, here or above.
        sweep: only those of this sweep, if there are any.
    """
    asked = root or os.environ.get("EXTRAPO_ROOT")
    places = [Path(asked)] if asked else list(map(Path, PLACES))
    found = next((place for place in places if (place / "mlflow.db").exists()), None)
    everything = tracking.runs(found) if found else []
    runs = [run for run in everything if run.status == "FINISHED" and run.curve]
    chosen = [run for run in runs if sweep is not None and run.tags.get(SWEEP) == sweep] or runs
    if not chosen:
        print("no finished run in", " or ".join(map(str, places)))
        print("record some with:", command)
    else:
        print(f"{len(chosen)} finished runs in {found}", f"of the sweep {sweep}" if len(chosen) < len(runs) else "")
    return chosen


def compared(runs: Sequence[RecordedRun], *, by: Sequence[str] | None = None) -> Comparison | None:
    """The runs beside one another, those that differ in their seed alone as one; None where they cannot be, which is
    said.

    Args:
        runs: of one record.
        by: settings that make a group; None for all in which they differ.
    """
    if not runs:
        return None
    try:
        return compare([run.run_id for run in runs], runs[0].store.location, by=by)
    except UserError as cause:
        print(cause)
        return None


def location(runs: Sequence[RecordedRun]) -> Location:
    """Where runs are recorded, for what opens one of them."""
    return runs[0].store.location


def show(figure: Any) -> None:
    """A figure of matplotlib's below a cell."""
    from IPython.display import Image, display

    display(Image(figures.rendered(figure, ("png",))["png"]))  # type: ignore[no-untyped-call]
