"""What is public is listed on one page, docs/api.md, and changes only on purpose: names and signatures.

    python tests/test_public_names.py > tests/public_names.txt

writes them anew, where a change is meant; it belongs into CHANGELOG.md.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import extrapo

HERE = Path(__file__).parent
RECORDED = HERE / "public_names.txt"


def listed() -> Iterator[str]:
    """The dotted names of the page."""
    page = (HERE.parent / "docs/api.md").read_text()
    entry = re.compile(r"^::: (\S+)(?:\n    options:\n      members: \[(.*)\])?", flags=re.MULTILINE)
    for name, members in entry.findall(page):
        yield name
        yield from (f"{name}.{member}" for member in re.findall(r"\w+", members))


def resolved(name: str) -> Any:
    """What a dotted name is."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            value: Any = import_module(".".join(parts[:cut]))
        except ImportError:
            continue
        for part in parts[cut:]:
            value = getattr(value, part)
        return value
    raise ImportError(name)


def line(name: str) -> str:
    """A name, and how it is called."""
    value = resolved(name)
    if inspect.isclass(value) and issubclass(value, BaseModel):
        # A new setting breaks nobody; one that leaves does.
        return f"{name}: " + " ".join(sorted(value.model_fields))
    if callable(value):
        signature = inspect.signature(value)
        bare = [one.replace(annotation=one.empty) for one in signature.parameters.values()]
        return f"{name}{signature.replace(parameters=bare, return_annotation=signature.empty)}"
    return name


def test_signatures_are_as_recorded() -> None:
    recorded = dict(re.split(r"(?=[(:]|$)", text, maxsplit=1) for text in RECORDED.read_text().splitlines())
    now = dict(re.split(r"(?=[(:]|$)", line(name), maxsplit=1) for name in listed())
    assert set(now) == set(recorded)
    for name, how in recorded.items():
        if how.startswith(":"):
            assert set(how.split()) <= set(now[name].split()), f"{name} has lost a setting"
        else:
            assert now[name] == how, f"{name}{now[name]} was {name}{how}"


def test_what_the_package_offers_is_on_the_page() -> None:
    names = {name.removeprefix("extrapo.").split(".")[0] for name in listed()}
    assert set(extrapo.__all__) <= names | {"__version__", "tracking"}


if __name__ == "__main__":
    print("\n".join(sorted(line(name) for name in listed())))
