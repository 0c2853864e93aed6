"""extrapo generate: text from a prompt, as it comes."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from extrapo.cli.flags import EVALUATION, Json, Store, StoreFlags
from extrapo.config import Count, Seed
from extrapo.location import Location

#: Characters of a prompt that take a while to read.
LONG = 5_000


def generate(
    run: Annotated[str, Parameter(help="A run (id, the start of it, name, or `last`), or the path of a checkpoint.")],
    /,
    *,
    prompt: Annotated[str, Parameter(help="What the text goes on from.")] = "\n",
    tokens: Annotated[Count, Parameter(help="Tokens to write; any number, also past the training length.")] = 200,
    temperature: Annotated[
        float, Parameter(help="Divides the logits; 0 takes the likeliest token.", group=EVALUATION)
    ] = 1.0,
    top_k: Annotated[
        int | None, Parameter(help="Draw from the k likeliest tokens only [all].", group=EVALUATION)
    ] = None,
    top_p: Annotated[
        float, Parameter(help="Draw from the likeliest that together have this probability.", group=EVALUATION)
    ] = 1.0,
    seed: Annotated[Seed, Parameter(help="Of the draws.", group=EVALUATION)] = 0,
    store: Store = StoreFlags(),  # noqa: B008
    json: Json = False,
) -> int:
    """Write text with a trained model, token by token; the prompt is repeated in front of it."""
    from extrapo.run.find import check_known
    from extrapo.terminal import Output

    check_known([run], Location.of(store))
    output = Output(json=json)
    output.waiting("loading PyTorch and Lightning ...")
    import time

    from extrapo.run.generate import Sampling, generate_text
    from extrapo.run.load import load

    sampling = Sampling(temperature, top_k, top_p, seed)
    trained = load(run, root=store.root, tracking_uri=store.tracking_uri)
    pieces = generate_text(trained.model, trained.tokenizer, prompt, sampling, tokens=tokens)
    if len(prompt) > LONG:
        output.waiting(f"reading a prompt of {len(prompt):,} characters ...")
    text, count = prompt, 0
    output.stream(prompt)
    began = time.perf_counter()
    for piece, so_far in pieces:
        text, count = text + piece, so_far
        output.stream(piece)
    rate = count / (time.perf_counter() - began)
    output.stream("\n")
    output.document({"text": text, "tokens_per_second": rate})
    return 0
