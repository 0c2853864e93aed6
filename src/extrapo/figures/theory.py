"""The pictures of theory: far mass, attention and coherence against distance, receptive fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from extrapo.figures.style import save_all
from extrapo.figures.theory_attention import attention_figure
from extrapo.figures.theory_coherence import coherence_figure
from extrapo.figures.theory_far_mass import far_mass_figure
from extrapo.figures.theory_field import field_figure

DRAWN = (
    ("far-mass", "heads", far_mass_figure),
    ("attention", "distances", attention_figure),
    ("coherence", "coherence", coherence_figure),
    ("receptive-field", "fields", field_figure),
)


def theory_figures(document: Mapping[str, Any], folder: Path) -> list[Path]:
    """The pictures of a document, see docs/theory.md, of which there is something to draw; the files."""
    paths: list[Path] = []
    for name, rows, figure in DRAWN:
        found: Sequence[Mapping[str, Any]] = document.get(rows, [])
        if found:
            said = {key: document.get(key, "") for key in ("encoding", "train_length", "corpus")}
            paths += save_all(figure(found, **said), folder, name)
    return paths
