"""Which MLflow made the tables of a database: each knows all revisions up to its own, and reads its own alone."""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

#: What a step between two revisions says of them.
REVISION = re.compile(r"^revision\b[^=\n]*=\s*['\"](\w+)['\"]", re.M)
BEFORE = re.compile(r"^down_revision\b[^=\n]*=(.*)$", re.M)


@cache
def revisions() -> dict[str, tuple[str, ...]]:
    """The revisions that the installed MLflow knows, each with those before it; MLflow is not loaded for that."""
    found: dict[str, tuple[str, ...]] = {}
    package = find_spec("mlflow")
    for place in (package and package.submodule_search_locations) or ():
        for step in Path(place, "store", "db_migrations", "versions").glob("*.py"):
            text = step.read_text("utf-8")
            if (revision := REVISION.search(text)) is not None:
                before = BEFORE.search(text)
                found[revision[1]] = tuple(re.findall(r"['\"](\w+)['\"]", before[1])) if before is not None else ()
    return found


def is_newest(revision: str) -> bool:
    """Whether a revision is the installed MLflow's own."""
    return revision in revisions() and not any(revision in before for before in revisions().values())


def age(revision: str, shown: str) -> str:
    """Which MLflow made the tables of a revision, and what to do: of a newer one this one has no steps.

    Args:
        revision: not the installed MLflow's own.
        shown: the address of the database, without its password.
    """
    if revision in revisions():
        return f"an older MLflow made it; keep a copy of it, then: mlflow db upgrade {shown}"
    return "a newer MLflow made it; install that one: pip install --upgrade mlflow"
