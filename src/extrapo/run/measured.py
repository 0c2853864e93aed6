"""A curve that was measured after training: what it is of, its name in the record, and recording it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from extrapo.config import EncodingFormSettings
from extrapo.errors import MachineError, UserError
from extrapo.evaluation import Point
from extrapo.evaluation.comparison import TERMS
from extrapo.location import Location
from extrapo.tracking.configuration import flatten
from extrapo.tracking.curves import read_sheet
from extrapo.tracking.measured import record_measured


@dataclass(frozen=True)
class Measured:
    """A curve, and what it is of.

    Args:
        checkpoint: whose weights.
        run: name and id of its run.
        encoding: under which they were measured.
        form: what was given of its options and kernel.
        is_own: whether it is the encoding of the training, unchanged.
        corpus: name of the text.
        skip: see GPTConfig.
        train_length: T.
        points: one per length.
        rows: the same as they are recorded, with what they were measured on.
        name: under which the run has it; empty while it has not, `own` where it is the run's own curve again.
    """

    checkpoint: Path
    run: str
    encoding: str
    form: EncodingFormSettings
    is_own: bool
    corpus: str
    skip: float | None
    train_length: int
    points: Sequence[Point] = field(repr=False)
    rows: Sequence[Mapping[str, Any]] = field(repr=False)
    name: str = ""

    @property
    def scheme(self) -> str:
        """The encoding with what was given of it, for people: `yarn, factor 4`."""
        kernel = {"kernel": self.form.kernel} if self.form.kernel else {}
        options = flatten({**self.form.encoding_options, **kernel})
        return ", ".join([self.encoding, *(f"{key} {value}" for key, value in options)])

    def document(self) -> dict[str, Any]:
        """What `extrapo evaluate --json` lists of it."""
        return {
            "run": self.checkpoint.parent.name,
            "encoding": self.encoding,
            "encoding_options": self.form.encoding_options,
            "kernel": self.form.kernel,
            "train_length": self.train_length,
            "curve": [point.row() for point in self.points],
        }

    def terms(self) -> dict[str, Any]:
        """What must agree for losses to be of one quantity, and of one model."""
        scored = next((row for row in self.rows if row["nll"] is not None), self.rows[0])
        return {
            **{term: scored.get(term) for term in TERMS},
            "encoding": None if self.is_own else [self.encoding, self.form.model_dump(mode="json")],
            "steps": trained_steps(self.checkpoint),
            "skip": self.skip,
        }


def record(found: Measured, location: Location, say: Callable[[str], None]) -> Measured:
    """Record a curve in its run, beside the run's own; say so where that cannot be.

    What repeats the run's own curve is there already.
    """
    if repeats_own(found):
        return replace(found, name="own")
    terms = found.terms()
    digest = sha256(json.dumps(terms, sort_keys=True, default=str).encode()).hexdigest()[:8]
    words = [] if found.is_own else [found.encoding]
    words += [str(terms["protocol"]), found.corpus, digest]
    name = "-".join(re.sub(r"[^\w.]+", "-", word) for word in words)
    document = {
        "encoding": found.encoding,
        "encoding_options": found.form.encoding_options,
        "kernel": found.form.kernel,
        "own_encoding": found.is_own,
        "corpus": found.corpus,
        "train_length": found.train_length,
        "skip": found.skip,
        "steps": terms["steps"],
        "rows": [dict(row) for row in found.rows],
        "blocks": {str(one.length): one.blocks._asdict() for one in found.points if one.blocks is not None},
    }
    try:
        record_measured(home(found.checkpoint, location), found.checkpoint.parent, name, document)
    except (UserError, MachineError, OSError) as cause:
        say(f"not recorded: {cause}")
        return found
    say(f"recorded as {name}")
    return replace(found, name=name)


def home(checkpoint: Path, location: Location) -> Location:
    """Where the run of a checkpoint is recorded: in the folder around its own, where there is a database."""
    around = Location(checkpoint.resolve().parent.parent)
    return around if location.tracking_uri is None and around.database.is_file() else location


def repeats_own(found: Measured) -> bool:
    """Whether the run has all of this as its own curve."""
    if not found.is_own or found.skip is not None:
        return False
    own = {row["length"]: row for row in read_sheet(found.checkpoint.parent)}

    def same(row: Mapping[str, Any]) -> bool:
        there = own.get(row["length"], {"nll": math.nan})
        if row["nll"] is None or there["nll"] is None:
            return row["nll"] is there["nll"]
        agree = all(row.get(term) == there.get(term) for term in TERMS)
        # To the rounding of another batch or back end; other weights are further off.
        return agree and math.isclose(row["nll"], there["nll"], rel_tol=1e-5)

    return all(map(same, found.rows))


def trained_steps(checkpoint: Path) -> int:
    """After how many optimiser steps a checkpoint was written."""
    return int(torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)["global_step"])
