"""extrapo data: text to token shards, and what is known of those that are there."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from extrapo.cli.flags import FIRST, HARDWARE, Json, TokenizerFlags
from extrapo.config import Count, Processes

data = App(
    name="data",
    help="Prepare text as token shards, and list, show and verify what is prepared.",
    group_parameters=FIRST,
)

Tokens = Annotated[TokenizerFlags, Parameter(name="*")]


@data.command
def prepare(
    spec: Annotated[
        str, Parameter(help="text:PATH, jsonl:PATH?column=NAME, parquet:PATH, hf:NAME, bin:PATH or a named corpus.")
    ],
    /,
    *,
    output: Annotated[
        str | None, Parameter(help="A name for it, or the path of a folder (with a separator) [the text's own name].")
    ] = None,
    tokens: Tokens = TokenizerFlags(),  # noqa: B008
    limit_tokens: Annotated[Count | None, Parameter(help="Stop behind the document that reaches so many.")] = None,
    workers: Annotated[Processes | None, Parameter(help="Threads that encode [all cores].", group=HARDWARE)] = None,
    json: Json = False,
) -> int:
    """Read a text of any size, make token shards and a manifest of it; stopped or killed, the same command goes on."""
    import time

    from extrapo.data import prepare as make
    from extrapo.data.opening import usual_name
    from extrapo.data.report import summary
    from extrapo.terminal import Output
    from extrapo.terminal.preparation import PreparationProgress, corpus_lines

    out, began = Output(json=json), time.monotonic()
    name = usual_name(spec) if output is None else output
    with PreparationProgress(out.console) as progress:
        corpus = make(
            spec,
            **dict(tokens),
            say=out.say,
            output=name,
            limit_tokens=limit_tokens,
            workers=workers,
            watcher=progress,
        )
    found = summary(corpus, name or spec)
    out.say(corpus_lines(found))
    out.document({**found, "seconds": round(time.monotonic() - began, 3)})
    return 0


@data.command(name="list")
def listing(*, json: Json = False) -> int:
    """List the prepared corpora of the cache."""
    from extrapo.data.report import damaged
    from extrapo.data.report import listing as rows_of
    from extrapo.terminal import Output

    out, rows, unread = Output(json=json), rows_of(), damaged()
    for line in unread:
        out.say(f"left out, {line}: prepare it again, or delete the folder")
    if json:
        out.document(rows)
    elif rows:
        numbers = ("vocab_size", "tokens", "documents", "validation")
        columns = ("name", "tokenizer", *numbers, "spec")
        out.table([{key: f"{row[key]:,}" if key in numbers else row[key] for key in columns} for row in rows])
    elif not unread:
        out.say("no corpus is prepared yet: extrapo data prepare SPEC")
    return 0


@data.command
def show(
    name: Annotated[str, Parameter(help="A prepared corpus by name or folder, or a spec that prepare takes.")],
    /,
    *,
    tokens: Tokens = TokenizerFlags(),  # noqa: B008
    json: Json = False,
) -> int:
    """Show a corpus: documents, their lengths as a plot, tokens, an excerpt."""
    from extrapo.data import prepare as make
    from extrapo.data.report import description
    from extrapo.terminal import Output
    from extrapo.terminal.preparation import corpus_lines, length_plot

    out = Output(json=json)
    found = description(make(name, **dict(tokens), say=out.say), name)
    if json:
        out.document(found)
        return 0
    out.say(corpus_lines(found))
    out.say(f"\n{length_plot(found['lengths'])}")
    out.say(f"\n{found['excerpt']} ...")
    return 0


@data.command
def verify(
    name: Annotated[str | None, Parameter(help="A prepared corpus by name or folder [every one].")] = None,
    /,
    *,
    json: Json = False,
) -> int:
    """Read prepared corpora and compare every file with the checksum in its manifest; exit code 2 where one differs."""
    from extrapo.data.report import check_sound, verified
    from extrapo.terminal import Output

    out, rows = Output(json=json), verified(name)
    for row in rows:
        out.say(f"{row['name']}: {row['fault'] or 'sound'} ({row['files']} files, {row['bytes']:,} bytes)")
    out.document({"corpora": [{**row, "sound": row["fault"] is None} for row in rows]})
    check_sound(rows)
    return 0
