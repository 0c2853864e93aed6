"""What docs/far-mass.md shows, from the runs of sweeps/far_mass_control.yaml and what was measured on them.

    python benchmarks/far_mass.py --root runs [--figures docs]

Prints the tables as Markdown; with `--figures`, draws perplexity against length there as well.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from extrapo import figures
from extrapo.evaluation.comparison import cell_of, over_seeds
from extrapo.evaluation.theory.summary import at_train_length, mixing_window
from extrapo.tracking import RecordedRun, runs

SWEEP = "far-mass-control"
ROTATION = "accumulated-rotation"
ANGLES = {"fixed": "fixed", "random": "random", "random-pos": "positive mean"}


def name_of(run: RecordedRun) -> str:
    """A cell in a few words: the angles of a rotation alone, what random angles are composed with, or the control."""
    options = run.config["encoding_options"]
    if run.encoding == ROTATION:
        return f"{ANGLES[options['angles']]}{', values' if options['values'] else ''}"
    return run.encoding.replace(f"{ROTATION}+", "random + ")


def cells(root: Path, sweep: str) -> dict[str, list[RecordedRun]]:
    """The finished runs of each cell, in the order of the sweep."""
    mine = [run for run in runs(root) if run.tags.get("extrapo.sweep") == sweep and run.status == "FINISHED"]
    found: dict[str, list[RecordedRun]] = {}
    for run in sorted(mine, key=lambda run: int(run.tags["extrapo.cell"])):
        found.setdefault(name_of(run), []).append(run)
    return found


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A table in Markdown."""
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    yield from ("| " + " | ".join(row) + " |" for row in rows)


def spread(values: Sequence[float | None], form: str = ".3f") -> str:
    """Mean and standard deviation over seeds; a dash where nothing is known, and `none` where there is no end."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    return f"{fmean(known):{form}}" + (f" ± {stdev(known):{form}}" if len(known) > 1 else "")


def curves(found: Mapping[str, Sequence[RecordedRun]]) -> dict[str, list[dict[str, Any]]]:
    """Each cell over its seeds."""
    return {
        name: [over_seeds(rows) for rows in zip(*(member.curve for member in members), strict=True)]
        for name, members in found.items()
    }


def perplexities(found: Mapping[str, Sequence[RecordedRun]]) -> Iterator[str]:
    """Perplexity by length, and the ratio of the last to T."""
    every = curves(found)
    lengths = [row["length"] for row in next(iter(every.values()))]
    rows = []
    for name, curve in every.items():
        at_train = next(row["ppl"] for row in curve if row["length"] == found[name][0].train_length)
        rows.append([name, str(len(found[name])), *map(cell_of, curve), f"{curve[-1]['ppl'] / at_train:.3f}"])
    yield from table(["cell", "seeds", *(f"{length:,}" for length in lengths), "last over T"], rows)


def masses(found: Mapping[str, Sequence[RecordedRun]]) -> Iterator[str]:
    """Near and far mass, the gap, the coherence of far values, the mixing window: of the runs with `extrapo theory`."""
    rows, lengths = [], set()
    for name, members in found.items():
        documents = [document for member in members if (document := member.document("theory/theory.json"))]
        if not documents:
            continue
        by_length: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for row in (row for document in documents for row in document["rows"] if row["source"] == "measured"):
            by_length[row["length"]].append(row)
        far = [length for length in sorted(by_length) if length > documents[0]["train_length"]]
        lengths.update(far)
        last = by_length[far[-1]]
        rows.append(
            [
                name,
                str(len(documents)),
                *(spread([row["near_mass"] for row in by_length[length]]) for length in far),
                spread([row["far_mass"] for row in last]),
                spread([row["gap"] for row in last], ".2f"),
                spread([row["far_coherence"] for row in last]),
                spread([row["log_near_to_far"] for row in last], ".2f"),
                *turns(documents),
            ]
        )
    head = [f"near mass at {length:,}" for length in sorted(lengths)]
    last = f"at {max(lengths):,}" if lengths else ""
    names = [f"far mass {last}", f"gap {last}", f"coherence of far values {last}", f"ln near over far {last}"]
    yield from table(["cell", "seeds", *head, *names, "coherence at T", "W(0.1)"], rows)


def turns(documents: Sequence[Mapping[str, Any]]) -> list[str]:
    """Coherence at distance T and the mixing window, where planes turn: means over layers and heads."""
    rows = at_train_length(documents)
    if not rows:
        return ["-", "-"]
    # A mean of each run, over which the seeds spread.
    means = [fmean(row["coherence"] for row in of_one) for one in documents if (of_one := at_train_length([one]))]
    window = mixing_window(rows)
    return [spread(means), "none" if window is None else f"{window:,.0f}"]


def recall(found: Mapping[str, Sequence[RecordedRun]]) -> Iterator[str]:
    """Story recall against distance: right answers of all seeds, the chance, and the loss of the answer."""
    rows, bins = [], []
    for name, members in found.items():
        documents = [document for member in members if (document := member.document("probes/story-recall.json"))]
        if not documents:
            continue
        told: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in (row for document in documents for row in document["results"]):
            told[row["distance"]].append(row)
        bins = bins or list(told)
        row = [name, str(sum(one["n"] for of_bin in told.values() for one in of_bin))]
        for of_bin in told.values():
            asked = sum(one["n"] for one in of_bin)
            right = sum(one["accuracy"] * one["n"] for one in of_bin) / asked
            chance = sum(one["chance"] * one["n"] for one in of_bin) / asked
            row.append(f"{right:.0%} ({chance:.0%}), {fmean(one['nll'] for one in of_bin):.2f}")
        rows.append(row)
    yield from table(["cell", "questions", *bins], rows)


def draw(found: Mapping[str, Sequence[RecordedRun]], folder: Path) -> None:
    """Perplexity against length: the rotations alone, and random ones with what controls them."""
    every = curves(found)
    alone = {f"{ROTATION}, {name}": rows for name, rows in every.items() if name.split(",")[0] in ANGLES.values()}
    composed = {
        name.replace("random + ", f"{ROTATION}+") if "+" in name else ROTATION: rows
        for name, rows in every.items()
        if name == "random" or "+" in name
    }
    for name, lines, title in (
        ("far-mass-alone", alone, "accumulated rotations alone"),
        ("far-mass-control", composed, "random accumulated rotations, and what controls their far mass"),
    ):
        train_length = next(iter(found.values()))[0].train_length
        figure = figures.curve_figure(lines, train_length=train_length, title=title)
        figures.save(figure, folder / f"{name}.png", dpi=None)


def main() -> None:
    """The tables, and the pictures where they are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", type=Path, default=Path("runs"))
    parser.add_argument("--sweep", default=SWEEP)
    parser.add_argument("--figures", type=Path)
    asked = parser.parse_args()
    found = cells(asked.root, asked.sweep)
    for lines in (perplexities(found), masses(found), recall(found)):
        print("\n".join(lines), end="\n\n")
    if asked.figures is not None:
        draw(found, asked.figures)


if __name__ == "__main__":
    main()
