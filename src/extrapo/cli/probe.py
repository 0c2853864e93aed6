"""extrapo probe: whether a trained model finds what stands far back."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from extrapo.config import Count, CountOrZero, InferenceSettings, RunConfig, StoreSettings
from extrapo.location import Location


def probe(
    run: Annotated[str, Parameter(help="A run (id, the start of it, name, or `last`), or the path of a checkpoint.")],
    /,
    *,
    task: Annotated[str, Parameter(help="passkey, induction, copy, or another's.")] = "passkey",
    lengths: Annotated[
        tuple[str, ...] | None,
        Parameter(help="Lengths in tokens [T/2, T, 2T, 4T, 8T, 16T].", negative=(), consume_multiple=True),
    ] = None,
    items: Annotated[Count, Parameter(help="Questions at each length.")] = 100,
    places: Annotated[Count, Parameter(help="Places in the text where the answer stands.")] = 10,
    seed: Annotated[CountOrZero, Parameter(help="Of the questions.")] = 0,
    settings: Annotated[InferenceSettings, Parameter(name="*")] = InferenceSettings(),  # noqa: B008
    device: Annotated[str, Parameter(help="auto, cpu or cuda.")] = "auto",
    store: Annotated[StoreSettings, Parameter(name="*")] = StoreSettings(),  # noqa: B008
    json: Annotated[
        bool, Parameter(help="One JSON document on stdout, everything else on stderr.", negative=())
    ] = False,
) -> int:
    """Ask a trained model for what stands far back in a text; by likelihood, so that any language model will do."""
    asked = RunConfig(lengths=lengths).lengths
    from extrapo.terminal import Output

    output = Output(json=json)
    output.waiting("loading PyTorch and Lightning ...")
    from extrapo.run.probe import probe as put

    results, picture = put(
        run,
        Location.of(store),
        output,
        settings,
        task=task,
        lengths=asked,
        items=items,
        places=places,
        seed=seed,
        device=device,
    )
    output.say("")
    output.table(
        [
            {
                "length": f"{result.length:,}",
                "accuracy": "not applicable" if result.accuracy is None else f"{result.accuracy:.1%}",
                "95%": "-" if result.low is None or result.high is None else f"{result.low:.1%} to {result.high:.1%}",
                "chance": f"{result.chance:.1%}",
                "items": f"{result.n:,}",
            }
            for result in results
        ]
    )
    output.say(f"picture: {picture}")
    if json:
        output.document({"task": task, "results": [result.row() for result in results]})
    return 0
