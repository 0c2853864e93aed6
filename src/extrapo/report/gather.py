"""All parts of a report, in the order in which a reader asks: what, with what result, how sure, why, and how again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from extrapo.known import known
from extrapo.report import results
from extrapo.report.content import Block, Commands, Document, Picture, Section, Table, Words
from extrapo.report.settings import command_lines, differing, shared, told
from extrapo.report.subject import Subject
from extrapo.tracking import RecordedRun
from extrapo.words import counted


def report_of(
    subjects: Sequence[Subject],
    *,
    train_length: int,
    differences: Sequence[Mapping[str, Any]] = (),
    why: str = "",
    title: str = "",
    question: str = "",
    made_by: str = "",
) -> Document:
    """The report of groups of runs that were measured alike.

    Args:
        subjects: the groups.
        train_length: T.
        differences: between them, see `evaluation.comparison.differences`.
        why: there are none.
        title, question: in the author's words; empty for the plain ones.
        made_by: the command that made the report.
    """
    names = ", ".join(one.name for one in subjects[:6]) + (" ..." if len(subjects) > 6 else "")
    longest = max(int(row["length"]) for one in subjects for row in one.curve)
    asked = question or f"Trained at T = {train_length:,} tokens, how does perplexity go on to {longest:,} tokens?"
    runs = sum(len(one.runs) for one in subjects)
    told_of = Words(f"{counted(runs, 'run')} in {counted(len(subjects), 'group')}: {names}")
    measured: list[Block] = [results.perplexities(subjects, train_length)]
    measured += results.curves(subjects, train_length)
    parts: list[tuple[str, Sequence[Block]]] = [
        ("Question", [Words(asked), told_of]),
        ("Perplexity past the training length", measured),
        ("Differences", list(results.pairs(differences, why))),
        ("Loss by position", list(results.positions(subjects, train_length))),
        ("Biases", list(results.heatmaps(subjects))),
        ("Theory", list(results.theory(subjects))),
        ("Probes", list(results.probes(subjects))),
        ("Settings", settings(subjects)),
        ("What was reconstructed", reconstructed(subjects)),
        ("Commands", commands(subjects, made_by)),
    ]
    return Document(
        title or f"Length extrapolation: {names}", [Section(name, blocks) for name, blocks in parts if blocks]
    )


def report_of_run(run: RecordedRun, picture: bytes) -> Document:
    """A short one of a single run, of what its training has drawn already.

    Args:
        run: with a curve.
        picture: of it, as PNG.
    """
    subject = Subject(run.encoding, [run], run.curve)
    assert run.train_length is not None
    table = results.perplexities([subject], run.train_length)
    shown = Picture("curves", {"png": picture}, table.caption)
    about = Words("Biases, weights and contextual distances of every pair of tokens: explorer.html, beside this page.")
    parts: list[tuple[str, list[Block]]] = [
        ("Perplexity past the training length", [table, shown, about]),
        ("Settings", settings([subject])),
        ("What was reconstructed", reconstructed([subject])),
        ("Commands", commands([subject], "")),
    ]
    return Document(f"{run.name} {run.run_id[:8]}", [Section(name, blocks) for name, blocks in parts])


def settings(subjects: Sequence[Subject]) -> list[Block]:
    """What differs between the runs, a row each, and what all share."""
    configs = [run.config for one in subjects for run in one.runs]
    varied = differing(configs)
    rows = [
        {
            "run": f"{run.name} {run.run_id[:8]}",
            **{key: told(run.config.get(key)) for key in varied},
            "parameters": f"{int(run.tags.get('extrapo.parameters', 0)):,}",
            "commit": run.tags.get("mlflow.source.git.commit", "-")[:10],
        }
        for one in subjects
        for run in one.runs
    ]
    alike = [{"setting": key, "value": value} for key, value in shared(configs).items()]
    return [
        Table("runs", rows, "The runs, and the settings in which they differ"),
        Table("settings", alike, "Settings that all runs share, derived ones included"),
    ]


def reconstructed(subjects: Sequence[Subject]) -> list[Block]:
    """Which of the encodings rest on a reconstruction, and where each is from."""
    names = dict.fromkeys(str(run.config.get("encoding", run.encoding)) for one in subjects for run in one.runs)
    used = {one.name: one for name in names for one in known(name)}
    rows = [
        {"encoding": one.name, "source": one.source, "certainty": one.certainty, "what it is": one.summary}
        for one in used.values()
    ]
    text = "Certain: the paper or its authors' code was read. Reconstruction: some is ours; docs/fidelity.md says what."
    return [Table("sources", rows, text)]


def commands(subjects: Sequence[Subject], made_by: str) -> list[Block]:
    """The line that makes each run again, and that of this page."""
    runs = list(chain.from_iterable(one.runs for one in subjects))
    lines = list(dict.fromkeys(command_lines([run.config for run in runs])))
    blocks: list[Block] = [Words("Each run again, on the same text and version:"), Commands(lines)]
    return [*blocks, Words("This report again:"), Commands([made_by])] if made_by else blocks
