"""extrapo evaluate: the curves of trained models at other lengths, on other text, under other encodings."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from extrapo.cli.flags import HARDWARE, RECORD, FormFlags, Json, MeasurementFlags, Store, StoreFlags
from extrapo.config import EncodingFormSettings, Line
from extrapo.errors import UserError
from extrapo.location import Location


def evaluate(
    runs: Annotated[
        tuple[str, ...],
        Parameter(help="Runs (id, the start of it, name, or `last`), or the paths of checkpoints; one or several."),
    ],
    /,
    *,
    encoding: Annotated[
        tuple[str, ...],
        Parameter(help="Other encodings on the trained weights, as yarn, rope+window or nope [the run's own]."),
    ] = (),
    form: Annotated[FormFlags, Parameter(name="*")] = FormFlags(),  # noqa: B008
    settings: Annotated[MeasurementFlags, Parameter(name="*")] = MeasurementFlags(),  # noqa: B008
    data: Annotated[Line | None, Parameter(help="Another text, as for fit [the run's own].")] = None,
    device: Annotated[str, Parameter(help="auto, cpu or cuda.", group=HARDWARE)] = "auto",
    record: Annotated[bool, Parameter(help="Record the curves in their runs.", group=RECORD)] = True,
    store: Store = StoreFlags(),  # noqa: B008
    json: Json = False,
) -> int:
    """Measure the perplexity of trained models at any lengths, with the tokenizer they were trained with."""
    if not runs:
        raise UserError("name a run: an id, the beginning of it, a name, `last`, or a path")
    from extrapo.run.find import check_known
    from extrapo.terminal import Output

    check_known(runs, Location.of(store))
    output = Output(json=json)
    output.waiting("loading PyTorch and Lightning ...")
    from extrapo.run.evaluate import measure

    found = measure(
        runs,
        Location.of(store),
        output,
        settings,
        encodings=encoding,
        # Settings of another class are never equal.
        form=EncodingFormSettings(**dict(form)),
        data=data,
        device=device,
        recorded=record,
    )
    first, *others = found
    curve = [point.row() for point in first.points]
    if not others:
        output.curve(curve, first.train_length)
        output.document({"curve": curve})
        return 0
    from extrapo.run.beside import beside

    table, lines = beside(found)
    output.say("")
    output.table(table)
    for line in lines:
        output.say(line)
    output.document({"curve": curve, "curves": [one.document() for one in found]})
    return 0
