"""One self-contained page of a run's looks in its template: no network, no build step, no more than LIMIT bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from extrapo.evaluation.look import LayerLook
from extrapo.figures.explorer.pack import BITS, chunk

#: Bytes of a page.
LIMIT = 4_900_000
#: Tokens that are shown at most: more would be finer than a phone's screen.
TOKENS = 128
#: Bits of the mantissa, fewer where those are too many.
MANTISSAS = (BITS, 6, 4)


def explorer_page(
    looks: Mapping[int, Sequence[LayerLook]], tokens: Sequence[str], *, about: Mapping[str, Any], limit: int = LIMIT
) -> str:
    """The page as HTML.

    Args:
        looks: by optimiser step, one per layer.
        tokens: what the tokens of the text say, T of them.
        about: `encoding`, `run`, `train_length`, `corpus`: what is shown.
        limit: bytes; what does not fit is left out in this order: digits, steps between the first and the last, all
            steps but the last, tokens from the end. The page says what it shows.
    """
    length = min(TOKENS, len(tokens), *(look.bias.shape[-1] for layers in looks.values() for look in layers))
    room = limit - len(template()) - 40_000
    chunks, bits = fitting(looks, length, room)
    while sum(map(size, chunks.values())) > room and length > 8:
        length //= 2
        chunks, bits = fitting(looks, length, room)
    layers = next(iter(looks.values()))
    meta = {
        **about,
        "tokens": list(tokens[:length]),
        "steps": list(chunks),
        "recorded_steps": len(looks),
        "layers": len(layers),
        "heads": layers[0].bias.shape[0],
        "has_positions": [look.positions is not None for look in layers],
        "has_gates": [look.gates is not None for look in layers],
        "precision": 2.0 ** -(bits + 1),
    }
    text = template().replace("<!--meta-->", script("meta", "application/json", json.dumps(meta)))
    data = [
        script(f"chunk-{step}-{layer}", "text/plain", packed)
        for step, of_step in chunks.items()
        for layer, packed in enumerate(of_step)
    ]
    return text.replace("<!--chunks-->", "\n".join(data))


def fitting(looks: Mapping[int, Sequence[LayerLook]], length: int, room: int) -> tuple[dict[int, list[str]], int]:
    """The chunks of as many steps as there is room for, with as many digits; and the bits of the mantissa."""
    chunks: dict[int, list[str]] = {}
    for bits in MANTISSAS:
        chunks = {step: [chunk(look.first(length), bits) for look in layers] for step, layers in looks.items()}
        if sum(map(size, chunks.values())) <= room:
            return chunks, bits
    steps = list(chunks)
    for count in range(len(steps) - 1, 1, -1):
        some = [steps[round(at * (len(steps) - 1) / (count - 1))] for at in range(count)]
        if sum(size(chunks[step]) for step in some) <= room:
            return {step: chunks[step] for step in some}, MANTISSAS[-1]
    # One step has more room than a share of it.
    last = {steps[-1]: looks[steps[-1]]}
    return fitting(last, length, room) if len(steps) > 1 else (chunks, MANTISSAS[-1])


def size(of_step: Sequence[str]) -> int:
    """Bytes of the chunks of one step, with the elements that hold them."""
    return sum(len(packed) + 60 for packed in of_step)


def template() -> str:
    """page.html with its style and its script in it."""
    here = files("extrapo.figures.explorer")
    html, css, js = ((here / f"page.{kind}").read_text("utf-8") for kind in ("html", "css", "js"))
    return html.replace("/*css*/", css).replace("/*js*/", js)


def script(name: str, kind: str, text: str) -> str:
    """Data in an element of its own, which no text can end."""
    escaped = text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return f'<script type="{kind}" id="{name}">{escaped}</script>'
