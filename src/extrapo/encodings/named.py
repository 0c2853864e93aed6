"""Names for compositions that a paper, or its code, treats as one scheme: `path-fox` is `path+fox`, and so on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from extrapo.encodings.core.encoding import Paper


@dataclass(frozen=True)
class Named:
    """A composition with a name of its own.

    Args:
        parts: what it is made of, joined by `+`.
        paper: its line of the catalogue.
        options: the parts' options, by part, where they differ from the parts' own defaults.
    """

    parts: str
    paper: Paper
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


#: name -> composition.
NAMED: dict[str, Named] = {
    "bipe-rope": Named(
        "bipe+rope",
        Paper(
            "He et al., 2401.16421",
            "contextual",
            "rotation",
            summary="RoPE between segments, an embedding in them",
            year=2024,
        ),
    ),
    "bipe-alibi": Named(
        "bipe+alibi",
        Paper(
            "He et al., 2401.16421", "contextual", "-", "linear", "ALiBi between segments, an embedding in them", 2024
        ),
        {"alibi": {"factor": 96.0}},
    ),
    "randomized-rope": Named(
        "randomized+rope",
        Paper("Ruoss et al., 2305.16843", "sampled", "rotation", "-", "RoPE at sampled positions", 2023),
    ),
    "randomized-alibi": Named(
        "randomized+alibi",
        Paper("Ruoss et al., 2305.16843", "sampled", "-", "linear", "ALiBi of sampled distances", 2023),
        {"randomized": {"sampling": "distances", "draw": "layer"}},
    ),
    "randomized-transformer-xl": Named(
        "randomized+transformer-xl",
        Paper("Ruoss et al., 2305.16843", "sampled", summary="Transformer-XL of sampled distances", year=2023),
        {"randomized": {"sampling": "distances", "draw": "layer"}},
    ),
    "path-fox": Named(
        "path+fox",
        Paper(
            "Yang et al., 2505.16381; Lin et al., 2503.02130",
            "contextual",
            "product of Householder steps",
            "linear",
            "PaTH with a forget gate, times 1/sqrt(d) as the library has it (the paper's formula: unscaled)",
            year=2025,
            state="k rewritten; 2 inputs of the convolution; c_j",
        ),
        {"fox": {"gate_scale": "s"}},
    ),
}
