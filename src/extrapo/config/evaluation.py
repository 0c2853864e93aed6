"""Evaluation: the lengths of the curve, and how a text is covered."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from extrapo.config.hardware import InferenceSettings
from extrapo.config.settings import Settings
from extrapo.config.values import Count, Lengths, Line, Pictures


def default_lengths(train_length: int) -> list[int]:
    """T/2, T, 2T, 4T, 8T, 16T."""
    return [max(1, train_length // 2), *(train_length * factor for factor in (1, 2, 4, 8, 16))]


class CurveSettings(Settings):
    """What a curve has its points at, and how many tokens each rests on."""

    lengths: Lengths | None = Field(None, description="Evaluation lengths [T/2, T, 2T, 4T, 8T, 16T].")
    eval_tokens: Count = Field(32_768, description="Tokens scored at every length.")
    protocol: Line = Field(
        "disjoint", description="How windows cover the text: disjoint, position, sliding, last-k, fixed-target."
    )
    stride: Count | None = Field(None, description="Tokens a sliding window moves by [half its length].")
    last: Count | None = Field(
        None, description="Targets at the end of each window [last-k: 256; fixed-target: 1/4 of the shortest length]."
    )
    by_document: bool = Field(False, description="Keep windows within documents, and draw these in the bootstrap.")
    start_token: Literal["none", "separator"] = Field(
        "none", description="What stands before a window's first target: the text's own token, or the separator."
    )


class EvaluationSettings(CurveSettings):
    """How the model of a run is measured, and looked at."""

    heatmaps: Pictures = Field(3, description="Times the biases are drawn, from the start to the end of training.")


class MeasurementSettings(InferenceSettings, CurveSettings):
    """How a trained model is measured again; without `lengths` and `eval_tokens`, with those of its run."""

    eval_tokens: Count | None = Field(  # type: ignore[assignment]
        None, description="Tokens scored at every length [as many as for the run's own curve]."
    )
