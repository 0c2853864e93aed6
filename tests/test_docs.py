"""What the documents show is true: their code runs, their commands and options exist, their links lead somewhere."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from documents import DOCUMENTS, PAGES, ROOT, blocks, commands, example, is_a_file, links, text
from extrapo import cli, encodings, kernels
from extrapo.cli import run
from extrapo.config import ProbeSettings, RunConfig
from extrapo.data.sources.text import TEXT_SUFFIXES
from extrapo.data.tokenizer import ByteTokenizer
from extrapo.encodings.family import family
from extrapo.encodings.named import NAMED
from extrapo.evaluation.probes import PROBES
from extrapo.known import FAMILIES
from extrapo.run.fit import fit

#: What only a recorded run answers, or the package of somebody else.
RECORDED = re.compile(r"extrapo\.load\(|EncodingContract")
PROGRAMS = [
    pytest.param(document, block, id=f"{document}:{number}")
    for document in DOCUMENTS
    for number, block in enumerate(blocks(document, "python"))
    if not is_a_file(block) and not RECORDED.search(block)
]


@pytest.mark.parametrize(("document", "block"), PROGRAMS)
def test_the_python_of_the_documents_runs(
    document: str, block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(block, document, "exec"), {})


@pytest.mark.slow
def test_what_is_asked_of_a_recorded_run_is_answered(
    small: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(small)
    monkeypatch.chdir(tmp_path)
    (example,) = [block for block in blocks("docs/python.md", "python") if "extrapo.load(" in block]
    names: dict[str, Any] = {}
    exec(compile(f"import extrapo\n{example}", "docs/python.md", "exec"), names)
    assert len(names["run"].curves) == 2


def test_the_probe_of_the_guide_is_a_task() -> None:
    before = dict(PROBES._classes)
    try:
        exec(compile(example("room.py"), "room.py", "exec"), {"__name__": "room"})
        probe = PROBES.get("room")(ByteTokenizer())
        items = probe.items(256, ProbeSettings(task="room", items=10, places=5))
    finally:
        PROBES._classes = before
    for item in items:
        assert {len(answered) for answered in item.texts} == {257}
        right = item.texts[item.right].tolist()
        before_it = right[: -item.answers[item.right]]
        # What is asked for was said, and no wrong answer was.
        said = [
            bytes(before_it).count(bytes(other.tolist()[-size:]))
            for other, size in zip(item.texts, item.answers, strict=True)
        ]
        assert sum(said) == said[item.right] == 1
    assert np.unique([item.place for item in items]).size == 5


COMMANDS = sorted({(line, document) for document in DOCUMENTS for line in commands(document)})


@pytest.mark.parametrize("line", sorted({line for line, _ in COMMANDS}))
def test_commands_of_the_documents_parse(
    line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    words = shlex.split(line)[1:]
    # Going on needs a recorded run; tests/run and tests/cli do it with one.
    if words[0] == "fit" and not {"--resume", "--init"} & set(words):
        assert run([*words, *({"--print-config"} - set(words))]) == 0, capsys.readouterr().err
    else:
        cli.app.parse_args(words, exit_on_error=False, print_error=False)


#: What makes a command one of seconds.
SHRUNK = {"--layers": "1", "--steps": "3", "--lengths": "32,64", "--items": "4"}


@pytest.mark.slow
def test_the_tutorial(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    """Its commands in their order, on a model of two heads."""
    shutil.copytree(ROOT / "sweeps", tmp_path / "sweeps")
    monkeypatch.chdir(tmp_path)
    small = f"--data text:{text} --tokenizer byte --heads 2 --dim 16 --seq-len 32 --eval-tokens 512 --val-tokens 128"
    done = []
    for line in commands("docs/tutorial.md"):
        words = shlex.split(line)[1:]
        if words[0] == "ui":
            continue
        for flag, value in SHRUNK.items():
            if flag in words:
                words[words.index(flag) + 1] = value
        if words[0] == "fit":
            words += small.split()
        if words[0] == "probe":
            words[words.index("--lengths") + 1] = "256"
        assert run(words) == 0, (line, capsys.readouterr().err)
        done.append(words[0])
    assert done.count("fit") == 2
    assert {"compare", "show", "evaluate", "probe", "sweep", "doctor"} <= set(done)
    assert (tmp_path / "curves.pdf").exists()
    assert (tmp_path / "mine-biases" / "layer-00.png").exists()


def test_every_page_has_an_example_that_a_test_runs() -> None:
    for page in set(PAGES) - {"docs/fidelity.md", "docs/results.md"}:
        assert blocks(page, "python") or list(commands(page)), f"{page} shows nothing to try"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_in_the_documents_exist(document: str) -> None:
    for target in links(document):
        assert (ROOT / target).exists(), f"{document} links to {target}"


def navigated(entries: list[Any]) -> list[str]:
    """The pages of the site's menu."""
    found = []
    for entry in entries:
        for page in entry.values() if isinstance(entry, dict) else [entry]:
            found += navigated(page) if isinstance(page, list) else [page]
    return found


def test_the_menu_of_the_site_has_every_page() -> None:
    pages = navigated(yaml.safe_load(text("mkdocs.yml"))["nav"])
    missing = [page for page in pages if not (ROOT / page).exists() and not page.startswith("docs/catalogue/")]
    assert not missing
    assert set(PAGES) <= {*pages, "docs/results.md"}


def test_the_readme_is_short() -> None:
    assert len(text("README.md").splitlines()) <= 150


@pytest.mark.slow
def test_the_site_is_built(tmp_path: Path) -> None:
    """A page and a picture for every encoding; links are checked, and no page fetches anything from elsewhere."""
    done = subprocess.run([sys.executable, "docs/site.py", tmp_path], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    pages = [page for page in (tmp_path / "site").rglob("*.html") if page.name == "index.html"]
    assert {page.parent.name for page in pages} >= {*encodings.names(), "tutorial", "api", "kernels"}
    for name in encodings.names():
        assert (tmp_path / "site" / "docs" / "catalogue" / f"{name}.png").stat().st_size > 300
    fetched = re.compile(r"<(?:script|img|link)[^>]+(?:src|href)=\"?https?://")
    assert not [page for page in pages if fetched.search(page.read_text())]
    assert 'id="extrapo.GPT"' in (tmp_path / "site/docs/api/index.html").read_text()


def test_the_fidelity_page_has_a_section_for_everything() -> None:
    """A heading for every encoding and kernel, and none for what is not there."""
    headings = re.findall(r"^### (kernel )?(.*)$", text("docs/fidelity.md"), flags=re.MULTILINE)
    found = {True: set[str](), False: set[str]()}
    for kernel, names in headings:
        found[bool(kernel)] |= set(re.findall(r"`([a-z0-9-]+)`", names))
    assert found[False] == set(encodings.names())
    assert found[True] == set(kernels.names())


def test_the_page_on_encodings_has_the_families_of_the_list() -> None:
    table = text("docs/encodings.md").partition("| family | names |")[2].partition("\n\n")[0]
    rows = [row.strip("| ").split(" | ") for row in table.splitlines()[2:]]
    assert {name for name, _ in rows} == set(FAMILIES)
    for name, members in rows:
        for one in re.findall(r"`([a-z0-9-]+)`", members):
            assert family(one) == name, one


def test_the_page_on_encodings_names_everything() -> None:
    listed = text("docs/encodings.md")
    named = {name for name in NAMED if name.startswith("randomized-")} | {"bipe", "randomized"}
    missing = [name for name in (*encodings.names(), *kernels.names()) if f"`{name}`" not in listed]
    assert set(missing) <= named


def test_the_page_on_corpora_names_every_kind_of_file() -> None:
    (section,) = re.findall(
        r"^## What is read.*?\n\n.*?\n\n", text("docs/tasks/corpus.md"), flags=re.DOTALL | re.MULTILINE
    )
    assert set(re.findall(r"`(\.\w+)`", section)) == TEXT_SUFFIXES
