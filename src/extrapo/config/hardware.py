"""The hardware: devices, machines, precision, and the compute path of attention."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from extrapo.config.settings import Settings
from extrapo.config.values import Devices, Line, Processes


class HardwareSettings(Settings):
    """On what a run computes."""

    devices: Devices | Literal["auto"] = Field("auto", description="Devices (processes); auto is all GPUs, or 1 CPU.")
    accelerator: Literal["auto", "cpu", "gpu"] = Field("auto", description="Where to run.")
    nodes: Processes = Field(1, description="Machines, started by torchrun or SLURM.")
    strategy: Line = Field(
        "auto", description="Lightning strategy: auto, ddp, fsdp (FSDP2), model-parallel (the same) ..."
    )
    precision: Literal["auto", "32-true", "bf16-mixed", "bf16-true", "16-mixed", "64-true"] = Field(
        "auto", description="auto is bf16-mixed on a GPU, 32-true on a CPU."
    )
    compile: bool | None = Field(None, description="torch.compile [on a GPU only].")


class ComputeSettings(Settings):
    """How attention computes. Its names are those of `extrapo.attention`, which looks them up."""

    impl: Line = Field("auto", description="Compute path of attention.")


class InferenceSettings(ComputeSettings):
    """How attention computes where nothing is trained."""

    skip: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="Leave out far keys that together weigh at most this much of 1 [none: exact]."
    )
