"""What there is to choose from, as plain rows: encodings, kernels, corpora."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from extrapo import attention
from extrapo import kernels as kernel_catalogue
from extrapo.data import catalogue as corpus_catalogue
from extrapo.encodings import Encoded, Encoding, create, get, names, paper, part_options, split
from extrapo.encodings.named import NAMED
from extrapo.options import choices, option_adapters

#: The shape at which parameters are counted: 8 heads of 64 at GPT-2's vocabulary.
HEADS, HEAD_DIM, VOCABULARY = 8, 64, 50_304

#: What there is of an encoding, in this order.
ROW = (
    *("name", "paper", "positions", "transform", "kernel", "impls", "parameters", "summary", "year", "content"),
    *("state", "certainty", "translation_invariant", "exempt"),
)
#: Tokens of the text on which it is asked what `auto` takes.
TEXT = 1024


def impls(encoding: Encoding) -> list[str]:
    """The back ends of attention that serve an encoding on a text, in evaluation, where this runs."""
    encoded = on_a_text(encoding, 2)
    with torch.no_grad():
        return [backend.name for backend in attention.BACKENDS if backend.serves(encoded.bias, encoded.q, encoded.k)]


def taken(encoding: Encoding) -> attention.Choice:
    """The one of them that `auto` takes on a text of TEXT tokens, and why: with gradients it may be another one."""
    encoded = on_a_text(encoding, TEXT)
    with torch.no_grad():
        return attention.choose(encoded.bias, encoded.q, encoded.k)


@torch.no_grad()
def on_a_text(encoding: Encoding, length: int) -> Encoded:
    """What attention needs of so many tokens that say nothing."""
    x, q = torch.zeros(1, length, encoding.dim), torch.zeros(1, encoding.heads, length, encoding.head_dim)
    return encoding.encode(q, q, q, x=x)


def layer(name: str, kernel: str | None = None) -> Encoding:
    """One layer of an encoding at the catalogue's shape."""
    shape: dict[str, int] = {"heads": HEADS, "head_dim": HEAD_DIM, "dim": HEADS * HEAD_DIM}
    return create(name, **shape, kernel=kernel, layers=2, vocab_size=VOCABULARY)


def encodings(*, built: bool = True) -> list[dict[str, Any]]:
    """One row per encoding; `parameters` are those of one layer of 8 heads of 64, vocabulary 50,304.

    Args:
        built: False for what is said of each without a layer of it: no `impls`, `parameters` and `exempt`, of which the
            back ends are asked for seconds.
    """
    return [row(name) if built else said(name) for name in names()]


def row(name: str) -> dict[str, Any]:
    """What the catalogue says of one encoding."""
    built = layer(name)
    of_layer = {
        "impls": impls(built),
        "parameters": sum(p.numel() for p in built.parameters()),
        "exempt": built.exemptions(),
    }
    found = said(name) | of_layer
    return {key: found[key] for key in ROW}


def said(name: str) -> dict[str, Any]:
    """What an encoding says of itself."""
    entry = paper(name)
    return {
        "name": name,
        "paper": entry.source,
        "positions": entry.positions,
        "transform": entry.transform,
        "kernel": entry.kernel,
        "summary": entry.summary,
        "year": entry.year,
        "content": "contextual" if entry.is_contextual else "static",
        "state": entry.state,
        "certainty": entry.certainty,
        "translation_invariant": all(get(part).translation_invariant for part in split(name)),
    }


def card(name: str) -> list[str]:
    """What there is to know of an encoding in a few lines: source, pieces, options with their defaults."""
    entry, auto = row(name), taken(layer(name))
    year = f", {entry['year']}" if entry["year"] else ""
    lines = [f"{name}: {entry['summary']}", f"source:     {entry['paper']}{year} ({entry['certainty']})"]
    if name in NAMED or len(split(name)) > 1:
        lines.append(f"made of:    {'+'.join(split(name))}")
    lines.append(f"positions:  {entry['positions']}; transform: {entry['transform']}; kernel: {entry['kernel']}")
    lines.append(f"back ends:  {', '.join(entry['impls'])}")
    lines.append(f"auto:       {auto.impl} on {TEXT:,} tokens in evaluation: {auto.reason}")
    lines.append(f"parameters: {entry['parameters']:,} in a layer of 8 heads of 64")
    lines.append(f"decoding:   keeps k, v{'' if entry['state'] == '-' else ', ' + entry['state']}")
    for part, own in part_options(name, None, {}).items():
        cls = get(part)
        words = {option: f" ({', '.join(of_it)})" for option, of_it in choices(cls).items()}
        options = [
            f"{option}={own.get(option, default)}{words.get(option, '')}"
            for option, default in option_defaults(cls).items()
        ]
        if options:
            lines.append(f"options:    {part}: {', '.join(options)}")
    lines += [f"exempt:     {clause}: {why}" for clause, why in entry["exempt"].items()]
    return lines


def option_defaults(cls: type) -> dict[str, Any]:
    """The options of a class with their defaults."""
    parameters = inspect.signature(cls).parameters
    return {option: parameters[option].default for option in option_adapters(cls)}


def kernels() -> list[dict[str, Any]]:
    """One row per kernel; `parameters` are those of one head, `impls` what serves it on contextual positions."""
    rows = []
    for name in kernel_catalogue.names():
        cls = kernel_catalogue.get(name)
        kernel = kernel_catalogue.create(name)
        rows.append(
            {
                "name": name,
                "paper": cls.paper,
                "positions": "any",
                "transform": "any",
                "kernel": name,
                "impls": impls(layer("contextual", kernel=name)),
                "parameters": sum(p.numel() for p in kernel.parameters()),
                "monotone": cls.monotone,
                "summable": cls.summable,
                "cpd": cls.cpd,
                "summary": cls.summary,
            }
        )
    return rows


def corpora() -> list[dict[str, Any]]:
    """One row per source of text."""
    return [dict(row) for row in corpus_catalogue()]
