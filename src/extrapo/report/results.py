"""The parts of a report in which numbers and pictures are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from extrapo import figures
from extrapo.evaluation.comparison import cell_of
from extrapo.figures.gain import gain_figure
from extrapo.report.content import Block, Picture, Table, Words
from extrapo.report.subject import Subject

#: Heatmaps of so many groups at most: a page stays one that can be sent.
MAPS = 12
#: What a table of theory has of a document's rows.
THEORY = ("length", "source", "ln_z", "entropy", "window_10", "n_90", "far_mass", "sink_mass", "network_window")


def protocol_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """How the rows of curves were measured, in a line."""
    told = sorted({str(row.get("description") or row.get("protocol")) for row in rows if row.get("protocol")})
    tokens = sorted({int(row["tokens"]) for row in rows if row.get("tokens")})
    corpora = sorted({str(row["corpus_sha256"])[:12] for row in rows if row.get("corpus_sha256")})
    parts = [f"protocol: {', '.join(told)}"] if told else []
    parts += (
        [f"{' to '.join(f'{n:,}' for n in dict.fromkeys((tokens[0], tokens[-1])))} tokens scored"] if tokens else []
    )
    parts += [f"text sha256 {', '.join(corpora)}"] if corpora else []
    return "; ".join(parts)


def perplexities(subjects: Sequence[Subject], train_length: int) -> Table:
    """A row per group, a column per length."""
    rows = [row for one in subjects for row in one.curve]
    lengths = sorted({int(row["length"]) for row in rows})
    table = []
    for one in subjects:
        of_length = {int(row["length"]): row for row in one.curve}
        cells = {f"{length:,}": cell_of(of_length[length]) if length in of_length else "-" for length in lengths}
        table.append(
            {
                "runs": one.name,
                "seeds": str(len(one.runs)),
                **cells,
                f"{lengths[-1]:,} over T": over(one, lengths[-1], train_length),
            }
        )
    several = any(len(one.runs) > 1 for one in subjects)
    spread = "mean ± standard deviation over seeds; " if several else ""
    how = protocol_of(rows)
    if any("-" in row.values() for row in table):
        how += "; - where not every run of a row has a loss"
    return Table("perplexity", table, f"Perplexity by length; {spread}T = {train_length:,}; {how}")


def curves(subjects: Sequence[Subject], train_length: int) -> Iterator[Picture]:
    """The curves, and what more context is worth."""
    lines = {one.name: one.curve for one in subjects}
    rows = [row for one in subjects for row in one.curve]
    lengths, how = sorted({int(row["length"]) for row in rows}), protocol_of(rows)
    drawn = figures.curve_figure(lines, train_length=train_length, title="")
    yield Picture("curves", figures.rendered(drawn), f"Perplexity against length, T marked; {how}", is_line=True)
    if len(lengths) > 1:
        drawn = gain_figure(lines, train_length=train_length, title="")
        yield Picture(
            "context-gain",
            figures.rendered(drawn),
            f"What more context than {lengths[0]:,} tokens is worth: the loss there less that at each length; {how}",
            is_line=True,
        )


def over(one: Subject, length: int, train_length: int) -> str:
    """The perplexity at a length over that at T; a dash where one of the two was not measured."""
    of_length = {int(row["length"]): row["ppl"] for row in one.curve if row["ppl"] is not None}
    if not {length, train_length} <= set(of_length):
        return "-"
    return f"{of_length[length] / of_length[train_length]:.3f}"


def pairs(differences: Sequence[Mapping[str, Any]], why: str) -> Iterator[Block]:
    """Each pair of groups at the longest length that both have.

    Args:
        differences: one of each pair, see `evaluation.comparison.differences`.
        why: there are none.
    """
    if not differences:
        if why:
            yield Words(why[:1].upper() + why[1:] + ".")
        return
    better = {"lower": "{one}", "higher": "{other}"}
    table = [
        {
            "one": row["one"],
            "other": row["other"],
            "length": f"{row['length']:,}",
            "difference": f"{row['mean']:+.4f}",
            "95%": f"{row['low']:+.4f} to {row['high']:+.4f}",
            "better": better.get(row["verdict"], "no difference that is more than chance").format(**row),
        }
        for row in differences
    ]
    yield Table("differences", table, "Mean loss of one less that of other, in nats, on the same targets")


def positions(subjects: Sequence[Subject], train_length: int) -> Iterator[Block]:
    """The loss by position in the window, of the groups of one run that have it."""
    for one in subjects:
        rows = one.runs[0].positions
        if rows:
            drawn = figures.positions_figure(rows, train_length=train_length, title=one.name)
            text = f"{one.name}: loss by position in the window, bands: 95%"
            yield Picture(f"positions-{one.slug}", figures.rendered(drawn), text, is_line=True)


def heatmaps(subjects: Sequence[Subject]) -> Iterator[Block]:
    """The biases of all heads of the last layer at the end of training, one run for each group."""
    with_maps = [(one, maps) for one in subjects if (maps := one.runs[0].last_heatmaps())]
    for one, (step, layers) in with_maps[:MAPS]:
        title = f"{one.name}: layer {len(layers) - 1}"
        drawn = figures.heatmap_figure(layers[-1], title=title)
        text = (
            f"{one.name}, {one.runs[0].name}: bias of all heads of layer {len(layers) - 1} of 0-{len(layers) - 1} at "
            f"step {step:,}, on the start of the validation text"
        )
        yield Picture(f"bias-{one.slug}", figures.rendered(drawn, ("png",)), text)
    if len(with_maps) > MAPS:
        yield Words(f"Of {len(with_maps)} groups with a bias, the first {MAPS} are shown.")
    without = [one.name for one in subjects if one not in [shown for shown, _ in with_maps]]
    if without:
        yield Words(f"Without a bias, or without recorded heatmaps: {', '.join(without)}.")


def theory(subjects: Sequence[Subject]) -> Iterator[Block]:
    """What `extrapo theory` recorded: the mean rows and the verdicts of each run."""
    for one in subjects:
        for run in one.runs:
            document = run.document("theory/theory.json")
            if document is None:
                continue
            columns = [name for name in THEORY if any(row.get(name) is not None for row in document["rows"])]
            rows = [{name: number(row.get(name)) for name in columns} for row in document["rows"]]
            if rows:
                text = f"{one.name}, {run.name}: means over layers and heads; text: {document['corpus']}"
                yield Table(f"theory-{one.slug}-{run.run_id[:8]}", rows, text)
            verdicts = [
                {"claim": claim, "holds": str(holds), "why": document["reasons"][claim]}
                for claim, holds in document["verdicts"].items()
            ]
            if verdicts:
                yield Table(
                    f"verdicts-{one.slug}-{run.run_id[:8]}", verdicts, f"{one.name}, {run.name}: the papers' claims"
                )


def probes(subjects: Sequence[Subject]) -> Iterator[Block]:
    """What `extrapo probe` recorded: accuracy with Wilson's interval at 95%, by task, run and length."""
    tables: dict[str, list[dict[str, str]]] = {}
    for one in subjects:
        for run in one.runs:
            for name in run.listed("probes", ".json"):
                # With the tasks come the models that answer them: PyTorch, of which a report without them has no need.
                from extrapo.evaluation.probes.result import variant_of

                document = run.document(name)
                assert document is not None
                for row in document["results"]:
                    sure = "-" if row["low"] is None else f"{row['low']:.1%} to {row['high']:.1%}"
                    tables.setdefault(document["task"], []).append(
                        {
                            "runs": one.name,
                            "run": run.run_id[:8],
                            "length": f"{row['length']:,}",
                            "variant": ", ".join(f"{key} {value}" for key, value in variant_of(row).items()) or "-",
                            "accuracy": "-" if row["accuracy"] is None else f"{row['accuracy']:.1%}",
                            "95%": sure,
                            "chance": f"{row['chance']:.1%}",
                            "items": f"{row['n']:,}",
                        }
                    )
    for task, rows in tables.items():
        yield Table(f"probe-{task}", rows, f"{task}: accuracy, its interval at 95% (Wilson), and chance")


def number(value: Any) -> str:
    """A number in few digits."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
