"""The documents of the repository, and what stands in them: examples, commands, links."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "notebooks/README.md", *PAGES]

#: Files that the pages walk through -> where each stands.
EXAMPLES = {
    "half_alibi.py": "docs/tasks/encoding.md",
    "levelling.py": "docs/tasks/kernel.md",
    "wide.py": "docs/tasks/backend.md",
    "three_quarters.py": "docs/tasks/protocol.md",
    "room.py": "docs/tasks/probe.md",
    "fables.py": "docs/tasks/corpus.md",
}


def text(document: str) -> str:
    return (ROOT / document).read_text()


def blocks(document: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text(document), flags=re.DOTALL | re.MULTILINE)


def is_a_file(block: str) -> bool:
    """Whether an example is a file, which says in its first line what it is, and not lines to type."""
    return block.startswith('"""')


def example(name: str) -> str:
    """The file of this name as its page shows it."""
    (block,) = filter(is_a_file, blocks(EXAMPLES[name], "python"))
    return block


def commands(document: str) -> Iterator[str]:
    """The commands of a document: lines of code, fenced or indented, and those that stand in a table."""
    for line in text(document).splitlines():
        # A line of prose that happens to begin so has the command in backticks.
        if (match := re.match(r"^ *(extrapo [^`]*)$", line)) is not None:
            yield match[1].split(" #")[0].strip()
        if line.startswith("|"):
            yield from re.findall(r"`(extrapo [a-z][^`]*)`", line)


def links(document: str) -> list[str]:
    """Where its links within the repository lead, without anchors, from the root."""
    prose = re.sub(r"^```.*?^```", "", textwrap.dedent(text(document)), flags=re.DOTALL | re.MULTILINE)
    targets = re.findall(r"\]\((?!https?:|mailto:)([^)#\s]+)", prose)
    return [(Path(document).parent / target).as_posix() for target in targets]
