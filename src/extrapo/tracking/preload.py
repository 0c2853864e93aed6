"""Importing this loads what opening a store and drawing a curve would load one by one: for processes that fork."""

from __future__ import annotations

from importlib import import_module

from extrapo.tracking.store import quiet

#: mlflow and sqlalchemy load these where they are first used; none of them starts a thread.
LATE = (
    "git",
    "alembic.migration",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.artifact.local_artifact_repo",
    "extrapo.tracking.logger",
    "matplotlib.backends.backend_agg",
    "sqlalchemy.dialects.sqlite",
    "sqlalchemy.dialects.postgresql",
)

quiet()
for name in LATE:
    import_module(name)
import_module("sqlalchemy.orm").configure_mappers()
