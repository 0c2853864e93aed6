"""The description of a run on its page, which shows it above all parameters: the curve, and a link to its view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from extrapo.tracking import views

if TYPE_CHECKING:
    from mlflow import MlflowClient

#: Where MLflow keeps it, in Markdown.
NOTE = "mlflow.note.content"
#: Ends a description that was written here; what people wrote themselves stays.
END = "Pictures by name are among the artifacts: `curves`, `heatmaps`."


def describe(client: MlflowClient, run_id: str, rows: Sequence[Mapping[str, Any]], train_length: int) -> None:
    """Write what a curve came to into its run's description, unless somebody has described the run.

    Args:
        client: of the store.
        run_id: the run.
        rows: one per length: `length`, and `ppl`, None where it does not apply.
        train_length: T.
    """
    run = client.get_run(run_id)
    before = run.data.tags.get(NOTE, "")
    if before and not before.endswith(END):
        return
    # Relative, so that it leads to the server that shows it.
    address = views.of_run(f"#/experiments/{run.info.experiment_id}/runs", run_id)
    text = [f"[Heatmaps and curve of this run]({address})", _table(rows, train_length), END]
    client.set_tag(run_id, NOTE, "\n\n".join(text))


def _table(rows: Sequence[Mapping[str, Any]], train_length: int) -> str:
    at_train = next((row["ppl"] for row in rows if row["length"] == train_length), None)
    lines = ["| tokens | length / T | perplexity | over that at T |", "|---:|---:|---:|---:|"]
    for row in sorted(rows, key=lambda row: int(row["length"])):
        length, ppl = int(row["length"]), row["ppl"]
        over = f"{ppl / at_train:.3f}" if ppl is not None and at_train else "-"
        shown = "-" if ppl is None else f"{ppl:,.2f}"
        lines.append(f"| {length:,} | {length / train_length:g} | {shown} | {over} |")
    return "\n".join(lines)
