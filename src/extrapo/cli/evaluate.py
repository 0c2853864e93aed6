"""extrapo evaluate: the curve of a finished run or of a checkpoint, at other lengths, on other text."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from extrapo.config import MeasurementSettings, StoreSettings
from extrapo.location import Location


def evaluate(
    run: Annotated[str, Parameter(help="A run (id, the start of it, name, or `last`), or the path of a checkpoint.")],
    /,
    *,
    settings: Annotated[MeasurementSettings, Parameter(name="*")] = MeasurementSettings(),  # noqa: B008
    data: Annotated[str | None, Parameter(help="Another text, as for fit [the run's own].")] = None,
    device: Annotated[str, Parameter(help="auto, cpu or cuda.")] = "auto",
    store: Annotated[StoreSettings, Parameter(name="*")] = StoreSettings(),  # noqa: B008
    json: Annotated[
        bool, Parameter(help="One JSON document on stdout, everything else on stderr.", negative=())
    ] = False,
) -> int:
    """Measure the perplexity of a trained model at any lengths, with the tokenizer it was trained with."""
    from extrapo.terminal import Output

    output = Output(json=json)
    output.waiting("loading PyTorch and Lightning ...")
    from extrapo.run.evaluate import evaluate as measure

    points, train_length = measure(run, Location.of(store), output, settings, data=data, device=device)
    rows = [point.row() for point in points]
    output.curve(rows, train_length)
    if json:
        output.document({"curve": rows})
    return 0
