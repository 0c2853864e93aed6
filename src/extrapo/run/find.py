"""A recorded run found by any name that it answers to, and what lies in its folder."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from extrapo.config import ResolvedConfig, RunConfig
from extrapo.data import Tokenizer
from extrapo.errors import UserError, complaints
from extrapo.location import Location
from extrapo.reading import path_of, read_yaml
from extrapo.tracking import RunStore
from extrapo.tracking.curves import SHEET, read_sheet

CHECKPOINT = "last.ckpt"
TOKENIZER = "tokenizer.json"
#: How a tokenizer's file ends that has ids of nothing, of which its hash knows nothing.
PADDED = re.compile(r', "padded": \d+}$')


def find_checkpoint(run: str, location: Location) -> Path:
    """The checkpoint that a run's own curve belongs to: the last one; or the one that is given as a path.

    Args:
        run: its id, the beginning of it, its name, or `last`; or the path of its folder or of a checkpoint in it.
        location: where runs are looked up by id and name.

    Raises:
        UserError: no such run or file, or a run that stopped before its first checkpoint.
    """
    path = path_of(run)
    if run.endswith(".ckpt") or path.is_file():
        if not path.is_file():
            raise UserError(f"no checkpoint at '{path}'")
        return path
    if (path / "config.yaml").is_file():
        name, folder = path.name, path
    else:
        run_id = RunStore.existing(location).find(run)
        name, folder = run_id[:8], location.folder(run_id)
    if not (folder / CHECKPOINT).is_file():
        raise UserError(f"run {name} has no checkpoint at '{folder / CHECKPOINT}'")
    return folder / CHECKPOINT


def check_known(names: Iterable[str], location: Location) -> None:
    """Whether runs of these names are in a record that takes no loading, before what takes seconds; of paths, and where
    nothing is recorded, it is told later, behind mistakes in settings.

    Raises:
        UserError: none answers to one of them, or several do; the message names what is near.
    """
    file = location.file
    called = [name for name in names if not name.endswith(".ckpt") and not path_of(name).exists()]
    if called and file is not None and file.is_file():
        RunStore.existing(location).find_all(called)


def sibling_file(checkpoint: Path, name: str) -> Path:
    """A file of the run that a checkpoint lies in.

    Raises:
        UserError: it is not there.
    """
    path = checkpoint.parent / name
    if not path.is_file():
        raise UserError(f"'{checkpoint}' has no {name} beside it: a checkpoint is read in the folder of its run")
    return path


def sibling_tokenizer(checkpoint: Path) -> Tokenizer:
    """The tokenizer of the run that a checkpoint lies in.

    Raises:
        UserError: it is not there, is none, or not the one that the run's curve was measured with.
    """
    path = sibling_file(checkpoint, TOKENIZER)
    found = Tokenizer.load(path)
    try:
        said = {row.get("tokenizer_sha256") for row in read_sheet(path.parent)} - {None, ""}
    except (ValueError, csv.Error) as cause:
        raise UserError(f"'{path.with_name(SHEET)}' is damaged: {cause}") from cause
    # As it was written: what the library makes of a file may be written otherwise by a later one.
    written = sha256(PADDED.sub("}", path.read_text(encoding="utf-8")).encode()).hexdigest()
    if said and written not in said:
        raise UserError(
            f"'{path}' is damaged, or another run's: '{SHEET}' beside it was measured with another tokenizer"
        )
    return found


def check_vocabulary(checkpoint: Path, tokenizer: Tokenizer, ids: int) -> None:
    """Whether a model of so many ids knows all those of the tokenizer beside its checkpoint.

    Raises:
        UserError: it does not: the tokenizer is another one's.
    """
    if tokenizer.vocab_size > ids:
        path = checkpoint.parent / TOKENIZER
        raise UserError(f"'{path}' has {tokenizer.vocab_size:,} ids, and the model in '{checkpoint}' only {ids:,}")


def recorded_config(checkpoint: Path) -> ResolvedConfig:
    """The configuration of the run that a checkpoint lies in.

    Raises:
        UserError: it is not there, or is none.
    """
    path = sibling_file(checkpoint, "config.yaml")
    recorded = read_yaml(path)
    if not isinstance(recorded, dict):
        raise UserError(f"'{path}' is not a configuration: a mapping of settings is expected")
    return parsed_config(recorded, str(path)).resolved()


def parsed_config(recorded: Mapping[str, Any], place: str) -> RunConfig:
    """A recorded configuration; UserError that says where it lies if this version cannot read it."""
    try:
        return RunConfig.model_validate(recorded)
    except ValidationError as cause:
        raise UserError(f"'{place}' is not a configuration of this extrapo: {complaints(cause)}") from cause
