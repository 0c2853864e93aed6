"""What a transform leaves of the content q.k at a distance: phase, size, and how much of it the tokens decide.

    size(n)      = sqrt(E l^2 / E l_0^2),             l = q.O k over n tokens, of independent q and k
    coherence(n) = sqrt(E_qk (E_x l)^2 / E l_0^2)     the mean over texts x and places: |E exp(i psi)| of a rotation

RoPE turns every text alike: its coherence is 1, though its logits oscillate. An accumulated rotation keeps the size and
loses the coherence; a temperature that falls with the distance loses both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from extrapo.encodings import Context, Encoding
from extrapo.encodings.core.rotation import Layout, pairs
from extrapo.evaluation.theory.built import Layer, at_longest

#: Distances that stretches of a text can be compared at, and how many there are of them without an overlap.
DISTANCES, STRETCHES = (1, 2, 4, 8, 16, 32, 64), 8
#: Of contents whose size is followed further out, at one place.
FAR = (1, 4, 16, 64, 256, 1024, 4096)
PAIRS = 16


class Content(NamedTuple):
    """(H, distances) each, relative to distance 0."""

    coherence: Tensor
    size: Tensor


class Turns(NamedTuple):
    """What a transform makes of 1 in each plane, (H, T, planes) complex: of queries and of keys; which planes."""

    queries: Tensor
    keys: Tensor
    layout: Layout


def turns(layer: Layer, length: int) -> Turns | None:
    """The turns of a layer's planes over drawn tokens; None where its transform is none of planes, or does nothing."""
    x, context = layer.input(length)
    return plane_turns(layer.encoding, x, context)


@torch.no_grad()
def plane_turns(encoding: Encoding, x: Tensor, context: Context) -> Turns | None:
    """The same over the tokens of a layer's input (1, T, D)."""
    if "transform" not in encoding.besides_bias() or encoding.head_dim % 2:
        return None
    layouts: tuple[Layout, ...] = ("half", "interleaved")
    for layout in layouts:
        found = []
        for part in (0, 1):
            unit = torch.zeros(encoding.head_dim, dtype=torch.float64, device=x.device)
            pairs(unit, layout)[part].fill_(1.0)
            probe = unit.expand(1, encoding.heads, x.size(1), -1)
            here = replace(context, shared=dict(context.shared))
            turned = encoding.transform(probe, probe, probe, x=x, context=here, state=None)
            if turned.q.size(-1) != encoding.head_dim:
                return None
            found.append([torch.complex(*pairs(one.double()[0], layout)) for one in (turned.q, turned.k)])
        (q, k), (second_q, second_k) = found
        # Of a turn by psi, 1 becomes e^(i psi) and i becomes i e^(i psi).
        if torch.allclose(second_q, 1j * q, atol=1e-5) and torch.allclose(second_k, 1j * k, atol=1e-5):
            # Two layouts may both fit what turns nothing.
            return None if torch.allclose(k, k[:, :1].expand_as(k), atol=1e-6) else Turns(q, k, layout)
    return None


@torch.no_grad()
def content(layer: Layer, distances: Sequence[int] = DISTANCES, seeds: Sequence[int] = (0, 1)) -> Content:
    """Coherence and size of random contents, over stretches of texts that do not overlap."""
    longest = max(distances)
    length, places = STRETCHES * longest + 1, [longest * (i + 1) for i in range(STRETCHES)]
    logits = torch.cat([scores(replace(layer, seed=seed), length, places, longest) for seed in seeds])
    # (texts and places, PAIRS, H, distances)
    at, base = logits[..., list(distances)], logits[..., :1].square().mean((0, 1))
    square = at.square().sum(0)
    # Of independent texts alone: l_a l_b without a = b.
    agreed = ((at.sum(0).square() - square) / (len(at) * (len(at) - 1))).mean(0).clamp_min(0)
    return Content((agreed / base).sqrt(), ((square / len(at)).mean(0) / base).sqrt())


@torch.no_grad()
def far_size(layer: Layer, distances: Sequence[int] = FAR) -> Tensor:
    """(H, distances) the size alone, of one place in one text, relative to distance 0; those at which it is defined."""
    logits = at_longest(lambda n: scores(layer, n + 1, [n], n)[0], sorted(distances, reverse=True))
    within = [n for n in distances if n < logits.size(-1)]
    return (logits[..., within].square().mean(0) / logits[..., :1].square().mean(0)).sqrt()


def scores(layer: Layer, length: int, places: Sequence[int], longest: int) -> Tensor:
    """(places, PAIRS, H, longest + 1) q.O k by distance, without what is added, of the queries at some places.

    Each of PAIRS contents is the same at all tokens.
    """
    encoding = layer.encoding
    generator = torch.Generator().manual_seed(99)
    x, context = layer.input(length)
    found = torch.empty(len(places), PAIRS, encoding.heads, longest + 1, dtype=torch.float64)
    for one in range(PAIRS):
        q, k = torch.randn(2, 1, encoding.heads, 1, encoding.head_dim, generator=generator).expand(
            -1, -1, -1, length, -1
        )
        encoded = encoding.encode(q, k, k, x=x, context=replace(context, shared={}))
        for at, place in enumerate(places):
            rows = slice(place, place + 1)
            keys = encoded.k[:, :, : place + 1]
            logits = encoded.bias.score_rows(encoded.q[:, :, rows], keys, 1.0, rows) - encoded.bias.added(rows)
            by_distance = logits.expand(1, encoding.heads, 1, place + 1)[0, :, 0].flip(-1)
            found[at, one] = by_distance[:, : longest + 1]
    return found
