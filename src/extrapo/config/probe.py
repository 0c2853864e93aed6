"""Probes: what a trained model is asked, and how often."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from extrapo.config.hardware import InferenceSettings
from extrapo.config.values import Count, Lengths, Line, Seed


def _number(value: Any) -> Any:
    """`100` as text is a number of questions, all else the path of a file."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


class ProbeSettings(InferenceSettings):
    """What a trained model is asked."""

    task: Line = Field(
        "passkey", description="passkey, recall, story-recall, induction, copy, hellaswag, lambada, or another's."
    )
    lengths: Lengths | None = Field(
        None,
        description="Lengths in tokens [T/2, T, 2T, 4T, 8T, 16T]; of a file's questions, the most that is read of each "
        "[all].",
    )
    items: Annotated[Count | Line, BeforeValidator(_number)] = Field(
        100, description="Questions at each length; hellaswag, lambada: the path of the file that has them."
    )
    limit: Count | None = Field(None, description="Only the first questions of a file [all].")
    places: Count = Field(
        10, description="Places in the text where the answer stands, for passkey, recall, induction and copy."
    )
    keys: Lengths = Field((10,), description="recall: keys that have a value in the text, several numbers of them.")
    seed: Seed = Field(0, description="Of the questions.")
    batch_tokens: Count = Field(4096, description="Tokens in one forward pass.")
    device: str = Field("auto", description="auto, cpu or cuda.")
