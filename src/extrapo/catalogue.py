"""What there is to choose from, as plain rows: encodings, kernels, corpora."""

from __future__ import annotations

from typing import Any

import torch

from extrapo import kernels as kernel_catalogue
from extrapo.attention import can_fold
from extrapo.data import catalogue as corpus_catalogue
from extrapo.encodings import create, get, names
from extrapo.encodings.base import Encoding

#: The shape at which parameters are counted: 8 heads of 64.
HEADS, HEAD_DIM = 8, 64


def impls(encoding: Encoding) -> list[str]:
    """The compute paths that serve an encoding."""
    bias = encoding.bias(torch.zeros(1, 2, encoding.dim))
    return ["reference", *(["fold"] if can_fold(bias) else []), "tiles"]


def encodings() -> list[dict[str, Any]]:
    """One row per encoding; `parameters` are those of one layer of 8 heads of 64."""
    rows = []
    for name in names():
        paper = get(name).paper
        layer = create(name, heads=HEADS, head_dim=HEAD_DIM, dim=HEADS * HEAD_DIM)
        rows.append(
            {
                "name": name,
                "paper": paper.source,
                "positions": paper.positions,
                "transform": paper.transform,
                "kernel": paper.kernel,
                "impls": impls(layer),
                "parameters": sum(p.numel() for p in layer.parameters()),
                "summary": paper.summary,
            }
        )
    return rows


def kernels() -> list[dict[str, Any]]:
    """One row per kernel; `parameters` are those of one head."""
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
                "impls": ["reference", *(["fold"] if cls.folds else []), "tiles"],
                "parameters": sum(p.numel() for p in kernel.parameters()),
                "summary": cls.summary,
            }
        )
    return rows


def corpora() -> list[dict[str, Any]]:
    """One row per source of text."""
    return [dict(row) for row in corpus_catalogue()]
