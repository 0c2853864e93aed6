"""The notebooks run from top to bottom on freshly recorded runs, and say so where there are none."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from extrapo.config import InferenceSettings, RunConfig
from extrapo.location import Location
from extrapo.run.fit import fit
from extrapo.run.theory import theory
from extrapo.terminal import Output

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"), key=lambda path: path.name)


class Executed:
    """What a notebook showed when it was run in a folder."""

    def __init__(self, name: str, folder: Path) -> None:
        notebook = nbformat.read(FOLDER / name, as_version=4)
        NotebookClient(notebook, timeout=240).execute(cwd=str(folder))
        self.outputs: list[Any] = [out for cell in notebook.cells if cell.cell_type == "code" for out in cell.outputs]
        self.pictures = [out for out in self.outputs if "image/png" in out.get("data", {})]
        self.printed = "".join(out.get("text", "") for out in self.outputs)


#: What is displayed where nobody draws it.
PICTURE = "<IPython.core.display.Image object>"


def typed(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """What the cells print when they are run here, in a folder, without the kernel that takes seconds to start."""
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    for cell in nbformat.read(FOLDER / name, as_version=4).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, name, "exec"), names)
    return capsys.readouterr().out


@pytest.fixture
def recorded(small: RunConfig, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    """`k-cable` over two seeds, and `rope`."""
    for encoding, seed in (("k-cable", 1), ("k-cable", 0), ("rope", 0)):
        settings = {**small.model_dump(exclude_unset=True), "encoding": encoding, "seed": seed, "heatmaps": 2}
        fit(RunConfig(**settings), Output())
    monkeypatch.setenv("EXTRAPO_ROOT", small.root)
    return small


@pytest.mark.slow
def test_recorded_runs_are_drawn(
    recorded: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = Executed("curves.ipynb", tmp_path)
    # One curve, and the one layer of k-cable twice (first and last); rope has no bias to draw.
    assert len(shown.pictures) == 3
    (table,) = [html for o in shown.outputs if "bits_per_byte" in (html := o.get("data", {}).get("text/html", ""))]
    assert "the same stretch of text under every length" in table
    assert "rope: adds nothing to the logits" in shown.printed
    assert "disjoint windows, stride = length, 1,024 tokens" in shown.printed

    printed = typed("sweep.ipynb", tmp_path, monkeypatch, capsys)
    assert printed.count(PICTURE) == 1
    assert "3 finished runs" in printed
    (of_two,) = [line for line in printed.splitlines() if "seeds 2" in line]
    assert "spread -" not in of_two
    assert "'length'" in printed


@pytest.mark.slow
def test_a_notebook_of_each_paper(
    small: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On runs of one's own, in any folder: curves, kernels, figures 7 and 8; windows; far mass and mixing."""
    monkeypatch.setenv("EXTRAPO_ROOT", small.root)
    for changes in (
        *({"encoding": "k-cable", "seed": seed} for seed in (0, 1)),
        *({"encoding": "adaptive", "seq_len": length} for length in (16, 32)),
        {"encoding": "accumulated-rotation", "encoding_options": {"angles": "random"}},
    ):
        result = fit(RunConfig(**{**small.model_dump(exclude_unset=True), "heatmaps": 1, **changes}), Output())
    asked = {"data": None, "device": "cpu", "texts": 1}
    theory(result.run_id, Location(Path(small.root)), Output(), InferenceSettings(), lengths=(32, 128), **asked)
    capsys.readouterr()

    printed = typed("cable.ipynb", tmp_path, monkeypatch, capsys)
    assert printed.count(PICTURE) == 5
    assert "5 finished runs" in printed

    printed = typed("adaptive.ipynb", tmp_path, monkeypatch, capsys)
    assert printed.count(PICTURE) == 1
    assert re.search(r"adaptive, seq_len \d+ less k-cable.* at .*: [-+]", printed) or "less adaptive" in printed
    assert f"extrapo evaluate {result.run_id[:8]}" in printed

    printed = typed("accumulated.ipynb", tmp_path, monkeypatch, capsys)
    assert printed.count(PICTURE) == 2
    assert re.search(r"accumulated-rotation\S*.* (none|[\d,]+ tokens)", printed)


@pytest.mark.chaos
def test_the_tour_goes_from_pieces_to_a_curve(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("STEPS", "3"), ("TEXT", str(text)), ("ROOT", str(tmp_path / "runs"))):
        monkeypatch.setenv(f"EXTRAPO_{name}", value)
    printed = typed("tour.ipynb", tmp_path, monkeypatch, capsys)
    # The kernel by hand, the composition, the curve, and the two layers.
    assert printed.count(PICTURE) == 5
    (difference,) = [line for line in printed.splitlines() if "largest difference" in line]
    assert float(difference.split(":")[1]) < 1e-5


@pytest.mark.parametrize("name", sorted({path.name for path in NOTEBOOKS} - {"tour.ipynb"}))
def test_where_there_are_no_runs_they_say_so(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("EXTRAPO_ROOT", raising=False)
    printed = typed(name, tmp_path, monkeypatch, capsys)
    assert "no finished run in runs or ../runs" in printed
    assert "record some with: extrapo " in printed
    # Kernels need no run.
    assert printed.count(PICTURE) == (name == "cable.ipynb")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_they_are_stored_without_outputs(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in cells)
    source = "\n".join(cell.source for cell in cells)
    assert "class " not in source
    assert path.name == "tour.ipynb" or "torch" not in source
