"""What a run is: the model's shape and the run's settings. No torch here, so that the command line starts at once.

    settings.py     what every group is
    values.py       the kinds of values
    model.py        the encoding, the swap to another one, the shape
    text.py, training.py, evaluation.py, hardware.py, record.py
                    the other groups of a run
    probe.py        what a trained model is asked
    gpt.py          GPTConfig: encoding, shape and compute path
    naming.py       what a run is called where nobody says
    run.py          RunConfig: all groups, as they are asked for; ResolvedConfig: with what follows written out

An error names a setting in backticks, as Python spells it: `top_k`, `accelerator='gpu'`. The command line says flags.
"""

from __future__ import annotations

from extrapo.config.evaluation import CurveSettings, EvaluationSettings, MeasurementSettings
from extrapo.config.gpt import GPTConfig
from extrapo.config.hardware import ComputeSettings, HardwareSettings, InferenceSettings
from extrapo.config.model import EncodingFormSettings, EncodingSettings, ShapeSettings, SwapSettings
from extrapo.config.probe import ProbeSettings
from extrapo.config.record import RecordSettings, StoreSettings
from extrapo.config.run import ResolvedConfig, RunConfig
from extrapo.config.settings import Settings
from extrapo.config.text import TextSettings, TokenizerSettings
from extrapo.config.training import InitSettings, TrainingSettings
from extrapo.config.values import (
    Count,
    CountOrZero,
    Devices,
    Line,
    Place,
    Port,
    PositiveOrZero,
    Processes,
    Seed,
    Width,
    joined,
)

__all__ = [
    "ComputeSettings",
    "Count",
    "CountOrZero",
    "CurveSettings",
    "Devices",
    "EncodingFormSettings",
    "EncodingSettings",
    "EvaluationSettings",
    "GPTConfig",
    "HardwareSettings",
    "InferenceSettings",
    "InitSettings",
    "Line",
    "MeasurementSettings",
    "Place",
    "Port",
    "PositiveOrZero",
    "ProbeSettings",
    "Processes",
    "RecordSettings",
    "ResolvedConfig",
    "RunConfig",
    "Seed",
    "Settings",
    "ShapeSettings",
    "StoreSettings",
    "SwapSettings",
    "TextSettings",
    "TokenizerSettings",
    "TrainingSettings",
    "Width",
    "joined",
]
