"""Recorded runs read back, for notebooks and comparisons."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from extrapo.errors import UserError
from extrapo.location import Location
from extrapo.reading import read_yaml
from extrapo.tracking import curves, heatmaps, positions, sound
from extrapo.tracking.fetching import fetched
from extrapo.tracking.measured import recorded_measured
from extrapo.tracking.rows import ENCODING, StoredRun
from extrapo.tracking.store import RunStore
from extrapo.tracking.sweeps import SWEEP


@dataclass(frozen=True)
class RecordedRun:
    """One run as the store has it; files are read when they are asked for.

    Args:
        store: the store that it came from.
        run_id: its id.
        name: its name.
        encoding: the positional encoding.
        status: RUNNING, FINISHED, FAILED or KILLED.
        tags: all its tags.
        metrics: the last value of each scalar.
        artifacts: where its artifacts lie, a folder or another address; empty where nobody says.
    """

    store: RunStore = field(repr=False)
    run_id: str
    name: str
    encoding: str
    status: str
    tags: dict[str, str] = field(repr=False)
    metrics: dict[str, float] = field(repr=False)
    artifacts: str = field(default="", repr=False)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The configuration, with its types, from `config.yaml`."""
        with self._file("config.yaml") as file:
            return sound.checked_config(read_yaml(file))

    @cached_property
    def curve(self) -> list[dict[str, Any]]:
        """The latest extrapolation curve, one row per length; empty while there is none."""
        if "extrapo.train_length" not in self.tags:
            return []
        with self._file(curves.TABLE) as file:
            table = sound.numbers_of(file)
            return sound.checked_rows([dict(zip(table["columns"], values, strict=True)) for values in table["data"]])

    @cached_property
    def blocks(self) -> dict[int, dict[str, list[float]]]:
        """The losses of that curve in stretches of the text, `nll` and `tokens` of each length; empty without any."""
        if not self._has(curves.BLOCKS):
            return {}
        with self._file(curves.BLOCKS) as file:
            return sound.checked_blocks(sound.numbers_of(file))

    @cached_property
    def measured(self) -> dict[str, dict[str, Any]]:
        """What was measured after training, by name: `rows`, `blocks`, and of what; see `tracking.measured`."""
        with sound.read_of(self.run_id, "curve that was measured later"):
            return recorded_measured(self.store.client, self.run_id)

    @property
    def train_length(self) -> int | None:
        """T; None while the run has no curve and its configuration does not say."""
        length = self.tags.get("extrapo.train_length") or self.config.get("seq_len")
        return None if length is None else sound.length_of(length, self.run_id)

    @property
    def checkpoint(self) -> Path | None:
        """The best checkpoint, if there is one; in the run's folder, wherever that is now."""
        path = self.tags.get("extrapo.checkpoint.best")
        if path is None:
            return None
        here = self.store.location.folder(self.run_id) / Path(path).name
        return here if here.is_file() else Path(path)

    @cached_property
    def positions(self) -> list[dict[str, Any]]:
        """The losses by position in the window, a row per length with `positions`; empty where none were recorded."""
        rows: dict[int, list[dict[str, Any]]] = {}
        with sound.read_of(self.run_id, positions.ARTIFACT):
            for one in self.document(positions.ARTIFACT) or ():
                rows.setdefault(int(one["length"]), []).append(one)
        return [{"length": length, positions.KEY: of_length} for length, of_length in rows.items()]

    def heatmaps(self) -> dict[int, list[NDArray[np.float32]]]:
        """The bias (H, T, T) of every layer, by training step."""
        return {step: self._biases(path) for step, path in self._drawn().items()}

    def last_heatmaps(self) -> tuple[int, list[NDArray[np.float32]]] | None:
        """The last step at which biases were drawn, and those; None where there are none."""
        drawn = self._drawn()
        return (max(drawn), self._biases(drawn[max(drawn)])) if drawn else None

    def last_heatmap(self) -> Path | None:
        """The picture of the last layer at the last step at which biases were drawn; None where there is none here."""
        steps = sorted((self._folder or Path(os.devnull)).glob(f"{heatmaps.KEY}/step-*"))
        pictures = sorted(steps[-1].glob("layer-*.png")) if steps else []
        return pictures[-1] if pictures else None

    def listed(self, folder: str, suffix: str) -> list[str]:
        """The artifacts in a folder whose names end like this."""
        if self._folder is not None:
            here = self._folder / folder
            return sorted(f"{folder}/{path.name}" for path in here.glob(f"*{suffix}")) if here.is_dir() else []
        paths = (str(artifact.path) for artifact in self.store.client.list_artifacts(self.run_id, folder))
        return sorted(path for path in paths if path.endswith(suffix))

    def document(self, artifact: str) -> Any:
        """A JSON document among the artifacts; None where there is none."""
        if not self._has(artifact):
            return None
        with self._file(artifact) as file:
            return json.loads(file.read_text("utf-8"))

    def _drawn(self) -> dict[int, str]:
        """The files of the biases by training step."""
        named = ((re.search(r"step-(\d+)\.npz$", path), path) for path in self.listed(heatmaps.FOLDERS["bias"], ".npz"))
        return dict(sorted((int(step[1]), path) for step, path in named if step is not None))

    def _biases(self, path: str) -> list[NDArray[np.float32]]:
        with self._file(path) as file, np.load(file) as arrays:
            return [arrays[name].astype(np.float32) for name in sorted(arrays) if name != heatmaps.TOKENS]

    @property
    def _folder(self) -> Path | None:
        """The folder of its artifacts, where it is one: MLflow's way to them takes many times longer."""
        if self.artifacts.startswith("file://"):
            return Path(unquote(self.artifacts.removeprefix("file://")))
        return Path(self.artifacts) if self.artifacts.startswith("/") else None

    def _has(self, artifact: str) -> bool:
        if self._folder is not None:
            return (self._folder / artifact).is_file()
        return artifact in self.listed(artifact.rpartition("/")[0], artifact)

    @contextmanager
    def _file(self, artifact: str) -> Iterator[Path]:
        """An artifact as a file, while it is read; UserError where it does not lie there, or is damaged."""
        with sound.read_of(self.run_id, artifact), ExitStack() as stack:
            if self._folder is None:
                yield stack.enter_context(fetched(self.store.client, self.run_id, artifact))
                return
            if not (self._folder / artifact).is_file():
                raise UserError(f"run {self.run_id[:8]} has no {artifact}: it stopped before that was recorded")
            yield self._folder / artifact


def recorded_run(store: RunStore, run: str) -> RecordedRun:
    """The run that `RunStore.find` finds."""
    return recorded_runs(store, [run])[0]


def recorded_runs(store: RunStore, names: Sequence[str]) -> list[RecordedRun]:
    """The run of each name, see `RunStore.find_all`."""
    return [_recorded(store, run) for run in store.find_all(names)]


def runs(root: Path | str, tracking_uri: str | None = None, experiment: str | None = None) -> list[RecordedRun]:
    """All recorded runs of a root folder or tracking store, newest first: where notebooks begin.

    Raises:
        UserError: there is no database.
    """
    store = RunStore.existing(Location(Path(root), tracking_uri))
    return [_recorded(store, run) for run in store.recorded(experiment)]


def trials(sweep: str, location: Location) -> list[str]:
    """The ids of the finished runs of a sweep, oldest first; UserError where there is none."""
    every = runs(location.root, location.tracking_uri)
    ids = [one.run_id for one in reversed(every) if one.status == "FINISHED" and one.tags.get(SWEEP) == sweep]
    if not ids:
        raise UserError(f"no finished run of a sweep '{sweep}' in {location.root}")
    return ids


def _recorded(store: RunStore, run: StoredRun) -> RecordedRun:
    known = (run.run_id, run.name, run.tags[ENCODING], run.status, run.tags, run.metrics, run.artifacts)
    return RecordedRun(store, *known)
