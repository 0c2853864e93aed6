"""An artifact of a run as a file while it is read: MLflow by itself leaves a copy of each among the temporary files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient


@contextmanager
def fetched(client: MlflowClient, run_id: str, artifact: str) -> Iterator[Path]:
    """The file of an artifact; it is gone behind the block."""
    with TemporaryDirectory(prefix="extrapo-") as folder:
        yield Path(client.download_artifacts(run_id, artifact, folder))
