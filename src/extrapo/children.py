"""Python's processes that this one starts: none takes its modules from the folder that a command was started in.

That folder may be one that all share: a file `mlflow.py` in it would be run in MLflow's place.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

#: Python's own switch, in the environment: `python -m` and `python -c` look for modules there first otherwise.
SAFE = {"PYTHONSAFEPATH": "1"}


@contextmanager
def inheriting(**more: str) -> Iterator[None]:
    """Children that are started in the block have `SAFE` in their environment, and this.

    Args:
        more: further variables.
    """
    added = {**SAFE, **more}
    before = {key: os.environ.get(key) for key in added}
    os.environ.update(added)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value
