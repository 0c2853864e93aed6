"""extrapo theory: the papers' conditions as numbers, of an encoding or of a trained run."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from extrapo.cli.flags import (
    EVALUATION,
    HARDWARE,
    MODEL,
    FormFlags,
    InferenceFlags,
    Json,
    Store,
    StoreFlags,
    check_used,
)
from extrapo.config import Count, CountOrZero, Line, RunConfig, Width
from extrapo.errors import UserError
from extrapo.location import Location

#: The columns that people see; all others are in the JSON document.
COLUMNS = (
    "length",
    "source",
    "ln_z",
    "entropy",
    "window_10",
    "window_1",
    "n_90",
    "far_mass",
    "sink_mass",
    "max_weight",
)
#: Of an encoding, unless others are asked for; and of a run.
HEADS, WIDTH, TRAIN_LENGTH, TEXTS = 8, 64, 512, 4


def theory(
    what: Annotated[
        str | None, Parameter(help="An encoding, or a run (id, the start of it, name, `last`) or checkpoint.")
    ] = None,
    /,
    *,
    all: Annotated[bool, Parameter(help="The verdicts on every encoding instead.", negative=())] = False,
    lengths: Annotated[
        tuple[str, ...] | None,
        Parameter(
            help="Lengths in tokens [an encoding: 64 to 65,536; a run: T/2 to 16T].", negative=(), consume_multiple=True
        ),
    ] = None,
    form: Annotated[FormFlags, Parameter(name="*")] = FormFlags(),  # noqa: B008
    heads: Annotated[Width, Parameter(help="Heads of an encoding.", group=MODEL)] = HEADS,
    head_dim: Annotated[Width, Parameter(help="Width of a head of an encoding.", group=MODEL)] = WIDTH,
    train_length: Annotated[Count, Parameter(help="T of an encoding.", group=MODEL)] = TRAIN_LENGTH,
    seed: Annotated[CountOrZero, Parameter(help="Of what is drawn for an encoding.", group=MODEL)] = 0,
    texts: Annotated[Count, Parameter(help="Most stretches of text a run is measured on.", group=EVALUATION)] = TEXTS,
    data: Annotated[Line | None, Parameter(help="Another text for a run [its own].")] = None,
    settings: Annotated[InferenceFlags, Parameter(name="*")] = InferenceFlags(),  # noqa: B008
    device: Annotated[str, Parameter(help="auto, cpu or cuda.", group=HARDWARE)] = "auto",
    store: Store = StoreFlags(),  # noqa: B008
    json: Json = False,
) -> int:
    """Say of an encoding, or of a trained run, where the papers' four conditions hold, and what they rest on."""
    asked = RunConfig(lengths=lengths).lengths
    if all == (what is not None):
        raise UserError("name an encoding or a run, or give `all`" if what is None else f"'{what}' or `all`, not both")
    for_runs = {
        "texts": texts != TEXTS,
        "data": data,
        "device": device != "auto",
        "impl": settings.impl != "auto",
        "skip": settings.skip,
    }
    for_encodings = {
        "encoding_options": form.encoding_options,
        "kernel": form.kernel,
        "heads": heads != HEADS,
        "head_dim": head_dim != WIDTH,
        "train_length": train_length != TRAIN_LENGTH,
        "seed": seed,
    }
    if what is None:
        check_used({"lengths": asked, **for_encodings, **for_runs}, "each encoding is judged as it is shipped")
    from extrapo import encodings
    from extrapo.encodings.per_layer import pattern
    from extrapo.evaluation.theory.of_encoding import LENGTHS, of_encoding
    from extrapo.terminal import Output

    output = Output(json=json)
    if what is None:
        from extrapo.evaluation.theory.table import verdict_table

        with output.curve_progress() as progress:
            rows = verdict_table(progress=lambda done, total: progress(0, done, total))
        output.table([{name: value for name, value in row.items() if name != "reasons"} for row in rows])
        output.document({"encodings": rows})
        return 0
    try:
        for name in dict.fromkeys(pattern(what)):
            encodings.split(name)
        is_encoding = True
    except UserError as cause:
        is_encoding, reason = False, cause
    if is_encoding:
        check_used(for_runs, f"'{what}' is an encoding, not a trained run")
        with output.curve_progress() as progress:
            document = of_encoding(
                what,
                asked or LENGTHS,
                heads=heads,
                head_dim=head_dim,
                train_length=train_length,
                kernel=form.kernel,
                options=form.encoding_options,
                seed=seed,
                progress=progress,
            )
    else:
        output.waiting("loading PyTorch and Lightning ...")
        from extrapo.run.load import find_checkpoint
        from extrapo.run.theory import theory as of_run

        location = Location.of(store)
        try:
            find_checkpoint(what, location)
        except UserError as cause:
            if what == "last":
                raise
            raise UserError(f"'{what}' is neither an encoding ({reason}) nor a run ({cause})") from cause
        check_used(for_encodings, f"'{what}' is a trained run, not an encoding")
        document = of_run(what, location, output, settings, lengths=asked, texts=texts, data=data, device=device)
    show(output, document)
    output.document(document)
    return 0


def show(output: Any, document: dict[str, Any]) -> None:
    """The mean rows and the verdicts for people."""
    rows = document["rows"]
    columns = [name for name in COLUMNS if any(name in row for row in rows)]
    output.say("")
    output.table([{name: cell(row.get(name)) for name in columns} for row in rows])
    for length, note in document.get("notes", {}).items():
        output.say(f"length {int(length):,}: {note}")
    output.say("")
    reasons = document["reasons"]
    output.table(
        [{"claim": claim, "holds": holds, "why": reasons[claim]} for claim, holds in document["verdicts"].items()]
    )
    for picture in document.get("pictures", []):
        output.say(f"picture: {picture}")


def cell(value: object) -> str:
    """A number in few digits."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
