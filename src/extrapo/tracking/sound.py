"""What the artifacts of a run must hold to be read: whoever can write to a store can write anything there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from pydantic_core import from_json

from extrapo.errors import MachineError, UserError
from extrapo.reading import shortened

#: What reading a file leads to that is none of ours, or of what a list and a mapping say where the other is expected.
DAMAGE = (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, EOFError, BadZipFile)
#: What JSON has of numbers.
NUMBERS = {int, float}
#: What a row of a curve is drawn by; a loss may be missing, or no number.
DRAWN = ("nll", "ppl")


@contextmanager
def read_of(run_id: str, artifact: str) -> Iterator[None]:
    """An artifact of a run is read in the block.

    Raises:
        UserError: it is damaged; the message says of which run.
        MachineError: it cannot be had from where it lies.
    """
    try:
        yield
    except UserError:
        raise
    except DAMAGE as cause:
        reason = shortened(" ".join(str(cause).split()) or type(cause).__name__)
        raise UserError(f"run {run_id[:8]}: its {artifact} is damaged: {reason}") from cause
    except Exception as cause:
        # MLflow is not loaded to know its errors by.
        if type(cause).__module__.partition(".")[0] != "mlflow":
            raise
        reason = " ".join(str(cause).split())[:200]
        raise MachineError(f"run {run_id[:8]}: its {artifact} cannot be read from where it lies: {reason}") from cause


def numbers_of(file: Path) -> Any:
    """A JSON document that is full of numbers, such as the losses of a curve: the floats of Python's own module,
    in a third of its time.

    Raises:
        ValueError: it is no JSON.
    """
    text = file.read_bytes()
    try:
        return from_json(text)
    except ValueError:
        # Of a name that is no text, such as a folder's in other letters than UTF-8, Python's has half a character.
        return json.loads(text.decode())


def length_of(text: Any, run_id: str) -> int:
    """A training length as it is recorded, in a tag or a configuration."""
    with read_of(run_id, "training length"):
        length = int(text)
        if length < 1:
            raise ValueError(f"{length} tokens")
        return length


def checked_config(config: Any) -> dict[str, Any]:
    """A configuration; ValueError where it is no mapping."""
    if not isinstance(config, dict):
        raise ValueError("a mapping of settings is expected")
    return config


def checked_rows(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a curve; ValueError, KeyError or TypeError where they are none."""
    for row in rows:
        if not is_number(row["length"]) or row["length"] < 1:
            raise ValueError(f"{row['length']!r} is no length")
        for name in DRAWN:
            if row[name] is not None and not is_number(row[name]):
                raise ValueError(f"{row[name]!r} is no {name}")
    return list(rows)


def checked_blocks(blocks: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """The losses of a curve in stretches, by length; ValueError and the like where they are none."""
    for length, found in blocks.items():
        losses, tokens = found["nll"], found["tokens"]
        # Of a full store these are a million.
        if not losses or len(losses) != len(tokens) or not {*map(type, losses), *map(type, tokens)} <= NUMBERS:
            raise ValueError(f"the stretches of length {length} are no numbers side by side")
    return {int(length): found for length, found in blocks.items()}


def checked_measured(document: dict[str, Any]) -> dict[str, Any]:
    """A curve that was measured after training; ValueError and the like where it is none."""
    checked_rows(document["rows"])
    checked_blocks(document["blocks"])
    if not document["own_encoding"]:
        _ = [document[key] for key in ("encoding", "encoding_options", "kernel")]
    return document


def is_number(value: object) -> bool:
    """Whether a value is one, finite or not."""
    return type(value) in NUMBERS
