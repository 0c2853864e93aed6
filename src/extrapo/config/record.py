"""The record: where runs are kept, and under what name."""

from __future__ import annotations

from pydantic import Field

from extrapo.config.settings import Settings
from extrapo.config.values import Line, Name, Place


class StoreSettings(Settings):
    """Where runs are kept."""

    root: Place = Field("runs", description="Folder of all runs: checkpoints, pictures, MLflow database.")
    tracking_uri: Line | None = Field(None, description="MLflow server or database [sqlite in the root].")


class RecordSettings(StoreSettings):
    """Where a run is kept, and under what name."""

    experiment: Name = Field("extrapo", description="MLflow experiment.")
    name: Name | None = Field(None, description="Name of the run [encoding, layers, seed, and what differs].")
    system_metrics: bool = Field(False, description="Record the machine's load too: CPU, memory, network, GPU.")
