"""Builds the site: the repository's pages as they lie, and the catalogue made from the code; links are checked.

    python docs/site.py [build/docs]

Pages keep their places, so that a link works in the repository and on the site. What is generated is not committed: a
page per encoding (docs/catalogue/NAME.md) with what its class says of itself and a picture of its first panel.
"""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from extrapo import catalogue, encodings, kernels
from extrapo.figures.preview import panels

ROOT = Path(__file__).parents[1]
#: What pages are, or link to.
COPIED = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "LICENSE",
    "docs",
    "benchmarks/results",
    "notebooks",
    "sweeps",
    "conf",
]
#: Heads, and tokens, of a picture.
HEADS, LENGTH, HEAD_DIM = 4, 64, 16
#: Pixels of a pair (query, key).
ZOOM = 3


def build(folder: Path) -> None:
    """The site in `folder`/site, from what is put together in `folder`/source.

    Raises:
        subprocess.CalledProcessError: a link that leads nowhere, and whatever else the build warns of.
    """
    assemble(folder / "source")
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    settings |= {"docs_dir": "source", "site_dir": "site"}
    (code,) = [plugin["mkdocstrings"] for plugin in settings["plugins"] if "mkdocstrings" in plugin]
    code["handlers"]["python"]["paths"] = [str(ROOT / "src")]
    (folder / "mkdocs.yml").write_text(yaml.safe_dump(settings, sort_keys=False))
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict", "--config-file", folder / "mkdocs.yml"]
    subprocess.run(command, check=True)


def assemble(target: Path) -> None:
    """All of it below `target`, which is made anew."""
    shutil.rmtree(target, ignore_errors=True)
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("*.py", "__pycache__", ".ipynb*"))
        elif source.exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target / name)
    folder = target / "docs" / "catalogue"
    folder.mkdir()
    fidelity = (ROOT / "docs/fidelity.md").read_text()
    formulas = sections(fidelity)
    rows = catalogue.encodings()
    for row in rows:
        name = row["name"]
        (folder / f"{name}.md").write_text(page(row, formulas.get(name, ""), picture(name, folder)))
    (folder / "index.md").write_text(index(rows))
    (folder / "kernels.md").write_text(kernel_page(sections(fidelity, "kernel ")))


def sections(text: str, kind: str = "") -> dict[str, str]:
    """Name -> what the page on fidelity says under its heading, `### kind`name``."""
    found = {}
    for block in re.split(r"^(?=##)", text, flags=re.MULTILINE):
        heading, _, body = block.partition("\n")
        if (match := re.match(rf"### {kind}(?=`)(.*)", heading)) is not None:
            for name in re.findall(r"`([^`]+)`", match[1]):
                found[name] = body.strip()
    return found


def picture(name: str, folder: Path) -> str:
    """Draws the first panel of an encoding, three heads side by side, and says what it shows as Markdown."""
    from matplotlib import colormaps
    from matplotlib.image import imsave

    panel = panels(name, heads=HEADS, head_dim=HEAD_DIM, length=LENGTH)[0]
    heads = sorted({0, panel.values.shape[0] // 2, panel.values.shape[0] - 1})
    finite = panel.finite[heads]
    low, high = np.nanpercentile(finite, [2, 100])
    levels = np.nan_to_num((finite - low) / max(high - low, 1e-9), nan=0.0).clip(0, 1)
    pixels = colormaps["viridis"](levels)
    pixels[np.isnan(panel.values[heads])] = 1.0
    pixels[np.isneginf(panel.values[heads])] = (0.85, 0.85, 0.85, 1.0)
    pixels = pixels.repeat(ZOOM, 1).repeat(ZOOM, 2)
    gap = np.ones((pixels.shape[1], 12, 4))
    imsave(folder / f"{name}.png", np.concatenate([part for head in pixels for part in (head, gap)][:-1], axis=1))
    which = f"heads {', '.join(map(str, heads))} of {HEADS}" if len(heads) > 1 else "the same for all heads"
    return (
        f"![{panel.title} of {name}]({name}.png)\n\n{panel.title.capitalize()} at the starting values, {which}: rows"
        f" are {LENGTH} queries, columns keys; from {low:.3g} (dark) to {high:.3g} (bright); grey is masked."
    )


def page(row: dict[str, Any], formula: str, drawn: str) -> str:
    """The page of an encoding."""
    name, parts = row["name"], encodings.split(row["name"])
    # A name for a composition has no class of its own.
    said = inspect.getdoc(encodings.get(name)) if list(parts) == [name] else None
    about = re.split(r"\n\n(?:Args|Raises):", said or "")[0]
    lines = [
        f"# {name}",
        f"{row['summary']}. {row['paper']}{', ' + str(row['year']) if row['year'] else ''} ({row['certainty']}).",
        f"```text\n{about}\n```" if about else "",
        drawn,
        "## Formula",
        formula,
        "## In figures",
        "| | |\n|---|---|\n"
        + "\n".join(
            f"| {key} | {', '.join(value) if isinstance(value, list) else value} |"
            for key, value in row.items()
            if key in ("positions", "transform", "kernel", "content", "parameters", "state", "impls")
        ),
        "`parameters`: of a layer of 8 heads of 64; `impls`: the back ends that serve it where this was built.",
        "\n".join(f"Exempt from `{clause}`: {why}." for clause, why in row["exempt"].items()),
        f"    extrapo fit --encoding {name}\n    extrapo show {name}",
    ]
    return "\n\n".join(line for line in lines if line) + "\n"


def index(rows: list[dict[str, Any]]) -> str:
    """The list of encodings."""
    lines = [f"| [`{r['name']}`]({r['name']}.md) | {r['year'] or ''} | {r['summary']} |" for r in rows]
    return (
        "# Catalogue\n\nMade from the code. [Kernels](kernels.md) are apart.\n\n| | | |\n|---|---|---|\n"
        + "\n".join(lines)
    )


def kernel_page(formulas: dict[str, str]) -> str:
    """All kernels."""
    parts = [f"## {name}\n\n`{kernels.get(name).summary}`\n\n{formulas.get(name, '')}" for name in kernels.names()]
    return "# Kernels\n\nphi(z) of a distance z >= 0, made from the code.\n\n" + "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    build(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "docs")
