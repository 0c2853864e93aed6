"""The files of a sweep form layers: each imports only those that are named above it, also inside its functions."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import extrapo.sweep

FOLDER = Path(extrapo.sweep.__file__).parent
#: As the package names them, in the order in which to read them.
ORDER = re.findall(r"^(\w+)\.py ", extrapo.sweep.__doc__ or "", re.MULTILINE)


def test_every_file_is_named_once() -> None:
    assert sorted(ORDER) == sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("name", ORDER)
def test_a_file_imports_those_above_it(name: str) -> None:
    imported: set[str] = set()
    for node in ast.walk(ast.parse((FOLDER / f"{name}.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "extrapo.sweep":
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("extrapo.sweep."):
            imported.add(str(node.module).split(".")[2])
    assert imported <= set(ORDER[: ORDER.index(name)])
