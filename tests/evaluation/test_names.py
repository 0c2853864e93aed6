"""The names of the evaluation are there before anything of it is loaded, and no others."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from extrapo import evaluation


def test_every_name_is_there() -> None:
    found = {name: getattr(evaluation, name) for name in evaluation.__all__}
    assert set(found) <= set(dir(evaluation))
    assert pickle.loads(pickle.dumps(found["perplexity"])) is evaluation.perplexity
    with pytest.raises(AttributeError, match="has no attribute 'perplexities'"):
        _ = evaluation.perplexities  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_file_is_there_as_soon_as_the_folder_is() -> None:
    code = (
        "import extrapo.evaluation as e, sys; print([m for m in ('torch', 'numpy') if m in sys.modules]);"
        "print(e.curve.Point is e.Point, e.metric.LengthNLL is e.LengthNLL, 'metric' in dir(e))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\nTrue True True\n"


@pytest.mark.slow
def test_a_misspelt_name_is_found_by_mypy(tmp_path: Path) -> None:
    file = tmp_path / "theirs.py"
    file.write_text(
        "import extrapo\nfrom extrapo.evaluation import diffrence\nextrapo.GPTT\nextrapo.data\nextrapo.figures\n"
        "extrapo.evaluation.curve.Point\n"
    )
    command = [sys.executable, "-m", "mypy", "--follow-imports=silent", "--cache-dir", tmp_path, file]
    said = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert said.stdout.count("[attr-defined]") == 2, said.stdout + said.stderr
    assert "difference" in said.stdout
    assert "GPTT" in said.stdout
