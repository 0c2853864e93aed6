"""extrapo evaluate: the curve of a finished run or of a checkpoint, at other lengths, on other text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from extrapo.config import RunConfig
from extrapo.errors import UserError
from extrapo.location import Location


def evaluate(
    run: Annotated[str, Parameter(help="A run (id, the start of it, name, or `last`), or the path of a checkpoint.")],
    /,
    *,
    lengths: Annotated[
        tuple[str, ...] | None,
        Parameter(help="Evaluation lengths in tokens [T/2, T, 2T, 4T, 8T, 16T].", negative=(), consume_multiple=True),
    ] = None,
    data: Annotated[str | None, Parameter(help="Another text, as for fit [the run's own].")] = None,
    eval_tokens: Annotated[int, Parameter(help="Tokens scored at every length.")] = 32_768,
    protocol: Annotated[str, Parameter(help="How windows cover the text.")] = "disjoint",
    impl: Annotated[str, Parameter(help="Compute path of attention.")] = "auto",
    skip: Annotated[
        float | None, Parameter(help="Leave out far keys that together weigh at most this much of 1 [none: exact].")
    ] = None,
    device: Annotated[str, Parameter(help="auto, cpu or cuda.")] = "auto",
    root: Annotated[str, Parameter(help="Folder of all runs.")] = "runs",
    tracking_uri: Annotated[str | None, Parameter(help="MLflow server or database [sqlite in the root].")] = None,
    json: Annotated[
        bool, Parameter(help="One JSON document on stdout, everything else on stderr.", negative=())
    ] = False,
) -> int:
    """Measure the perplexity of a trained model at any lengths, with the tokenizer it was trained with."""
    if skip is not None and not 0 < skip < 1:
        raise UserError(f"--skip must be between 0 and 1, not {skip:g}")
    asked = RunConfig(lengths=lengths).lengths
    from extrapo.terminal import Output

    output = Output(json=json)
    output.waiting("loading PyTorch and Lightning ...")
    from extrapo.run.evaluate import evaluate as measure

    points, train_length = measure(
        run,
        Location(Path(root), tracking_uri),
        output,
        lengths=asked,
        data=data,
        eval_tokens=eval_tokens,
        protocol=protocol,
        impl=impl,
        skip=skip,
        device=device,
    )
    rows = [point.row() for point in points]
    output.curve(rows, train_length)
    if json:
        output.document({"curve": rows})
    return 0
