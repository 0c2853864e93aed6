"""What README and CONTRIBUTING show is true: their code runs, their commands and options exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from extrapo import encodings, kernels
from extrapo.cli import run
from extrapo.config import RunConfig
from extrapo.encodings.named import NAMED
from extrapo.run.fit import fit

ROOT = Path(__file__).parents[1]


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / document).read_text(), flags=re.DOTALL)


def test_the_python_of_the_readme_runs() -> None:
    example, _ = blocks("README.md", "python")
    exec(compile(example, "README.md", "exec"), {})


@pytest.mark.slow
def test_what_the_readme_asks_of_a_recorded_run_is_answered(
    small: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(small)
    monkeypatch.chdir(tmp_path)
    _, example = blocks("README.md", "python")
    names: dict[str, Any] = {}
    exec(compile(f"import extrapo\n{example}", "README.md", "exec"), names)
    assert len(names["run"].curves) == 2


COMMANDS = sorted(
    {
        line.split("#")[0].strip()
        for document in ("README.md", "CONTRIBUTING.md")
        for line in (ROOT / document).read_text().splitlines()
        # Going on needs a recorded run; tests/run and tests/cli do it with one.
        if re.match(r"\s*(\$ )?extrapo (fit|list)\b", line) and not re.search("--(resume|init)", line)
    }
)


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_of_the_documents_parse(
    line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    words = shlex.split(line)[1:]
    if words[0] == "fit":
        words.append("--print-config")
    assert run(words) == 0, capsys.readouterr().err


def test_links_in_the_documents_exist() -> None:
    for document in ("README.md", "CONTRIBUTING.md", "docs/fidelity.md", "docs/theory.md"):
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / document).read_text()):
            assert (ROOT / target).exists(), f"{document} links to {target}"


def test_the_fidelity_page_has_a_section_for_everything() -> None:
    """A heading for every encoding and kernel, and none for what is not there."""
    text = (ROOT / "docs/fidelity.md").read_text()
    headings = re.findall(r"^### (kernel )?(.*)$", text, flags=re.MULTILINE)
    found = {True: set[str](), False: set[str]()}
    for kernel, names in headings:
        found[bool(kernel)] |= set(re.findall(r"`([a-z0-9-]+)`", names))
    assert found[False] == set(encodings.names())
    assert found[True] == set(kernels.names())


def test_the_readme_names_everything() -> None:
    text = (ROOT / "README.md").read_text()
    named = {name for name in NAMED if name.startswith("randomized-")} | {"bipe", "randomized"}
    missing = [name for name in (*encodings.names(), *kernels.names()) if f"`{name}`" not in text]
    assert set(missing) <= named
