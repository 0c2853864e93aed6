"""extrapo probe: whether a trained model finds what stands far back, and what else it is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from extrapo.cli.flags import Json, ProbeFlags, Store, StoreFlags
from extrapo.errors import Interrupted
from extrapo.location import Location

if TYPE_CHECKING:
    from extrapo.evaluation.probes import Result


def probe(
    run: Annotated[str, Parameter(help="A run (id, the start of it, name, or `last`), or the path of a checkpoint.")],
    /,
    *,
    settings: Annotated[ProbeFlags, Parameter(name="*")] = ProbeFlags(),  # noqa: B008
    store: Store = StoreFlags(),  # noqa: B008
    json: Json = False,
) -> int:
    """Ask a trained model for what stands far back in a text, or the questions of a file; by likelihood, so that any
    language model will do. Stopped or killed, the same command goes on.
    """
    from extrapo.run.find import check_known
    from extrapo.terminal import Output

    check_known([run], Location.of(store))
    output = Output(json=json)
    output.waiting("loading PyTorch and Lightning ...")
    from extrapo.run.probe import probe as put

    try:
        results, picture = put(run, Location.of(store), output, settings)
    except Interrupted:
        output.say("interrupted; what was found is kept, and the same command goes on from there")
        return 130
    output.say("")
    rows = [columns(result) for result in results]
    names = max(rows, key=len)
    output.table([{name: row.get(name, "-") for name in names} for row in rows])
    for result in results:
        if result.note is not None:
            output.say(f"length {result.length:,}: {result.note}")
    output.say(f"picture: {picture}")
    if json:
        output.document({"task": settings.task, "results": [result.row() for result in results]})
    return 0


def columns(result: Result) -> dict[str, str]:
    """A result as people read it."""
    shown = {"length": f"{result.length:,}", **{name: str(value) for name, value in result.variant.items()}}
    shown["accuracy"] = "not applicable" if result.accuracy is None else f"{result.accuracy:.1%}"
    shown["95%"] = "-" if result.low is None or result.high is None else f"{result.low:.1%} to {result.high:.1%}"
    if result.perplexity is not None:
        shown["perplexity"] = f"{result.perplexity:.5g}"
    if result.nll is not None:
        shown["loss"] = f"{result.nll:.4f}"
    shown["chance"] = f"{result.chance:.1%}" if result.chance >= 0.001 else f"{result.chance:.1e}"
    return {**shown, "items": f"{result.n:,}"}
