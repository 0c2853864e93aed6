"""The notebook runs from top to bottom on a freshly recorded run, and defines no model."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from extrapo.config import RunConfig
from extrapo.run.fit import fit
from extrapo.terminal import Output

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "curves.ipynb"


@pytest.mark.slow
def test_the_notebook_draws_the_recorded_runs(small: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    for encoding in ("k-cable", "rope"):
        fit(RunConfig(**{**small.model_dump(exclude_unset=True), "encoding": encoding}), Output())
    monkeypatch.setenv("EXTRAPO_ROOT", small.root)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=120).execute(cwd=str(NOTEBOOK.parent))
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    pictures = [o for o in outputs if "image/png" in o.get("data", {})]
    # One curve, and the one layer of k-cable twice (first and last); rope has no bias to draw.
    assert len(pictures) == 3
    (table,) = [html for o in outputs if "bits_per_byte" in (html := o.get("data", {}).get("text/html", ""))]
    assert "the same stretch of text under every length" in table
    said = "".join(o.get("text", "") for o in outputs)
    assert "rope: adds nothing to the logits" in said
    assert "disjoint windows, stride = length, 1,024 tokens" in said


def test_it_is_stored_without_outputs_and_defines_no_model() -> None:
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in cells)
    source = "\n".join(cell.source for cell in cells)
    assert "torch" not in source
    assert "class " not in source
