"""What came of some runs, or of a sweep, as one page, and the same as Markdown and as LaTeX tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from extrapo.errors import UserError
from extrapo.files import atomic_write, check_writable, write_text
from extrapo.location import Location
from extrapo.reading import path_of
from extrapo.report import Document, Picture, Subject, latex, markdown, page, report_of, report_of_run
from extrapo.report.plain import PICTURES
from extrapo.run.compare import compare
from extrapo.tracking import RecordedRun, Recorder
from extrapo.tracking.reading import trials

#: What a folder gets, besides the pictures.
PAGE, PLAIN, TABLES = "report.html", "report.md", "report.tex"


def report(
    runs: Sequence[str],
    location: Location,
    *,
    sweep: str | None = None,
    output: Path | None = None,
    title: str = "",
    question: str = "",
    made_by: str = "",
) -> dict[str, Path]:
    """Write the report of runs that were measured alike; the files by kind: `html`, `markdown`, `latex`.

    Args:
        runs: ids, the beginning of them, names, or `last`.
        location: where they are recorded.
        sweep: all finished runs of this sweep instead.
        output: a folder, for all kinds with their pictures; or a file that ends in .html, for the page alone.
            None is the folder `report`, or `report-SWEEP`.
        title, question: in the author's words.
        made_by: the command that asked for it.

    Raises:
        UserError: no such runs, or curves that are not of one quantity.
    """
    if bool(runs) == (sweep is not None):
        raise UserError("name runs, or a `sweep`")
    place = path_of(output or ("report" if sweep is None else f"report-{sweep}"))
    alone = place.suffix.lower() in (".html", ".htm")
    check_writable(place if alone else place / PAGE)
    found = compare(runs if sweep is None else trials(sweep, location), location, longest=True)
    members = found.runs()
    document = report_of(
        [Subject(group.name, members[group.name], group.curve()) for group in found.groups],
        train_length=found.train_length,
        differences=found.differences,
        why=found.why,
        title=title,
        question=question,
        made_by=made_by,
    )
    return {"html": write_text(place, page(document))} if alone else written(document, place)


def record_report(recorder: Recorder, run: RecordedRun, picture: Path | None) -> None:
    """Record the short report of a run that has just been measured, which MLflow shows; nothing without a curve."""
    if picture is not None:
        recorder.file(PAGE, page(report_of_run(run, picture.read_bytes())))


def written(document: Document, folder: Path) -> dict[str, Path]:
    """All kinds of a report in a folder."""
    for one in document.blocks():
        if isinstance(one, Picture):
            for kind, data in one.files.items():
                with atomic_write(folder / PICTURES / f"{one.name}.{kind}") as file:
                    file.write(data)
    return {
        "html": write_text(folder / PAGE, page(document)),
        "markdown": write_text(folder / PLAIN, markdown(document)),
        "latex": write_text(folder / TABLES, latex(document)),
    }
