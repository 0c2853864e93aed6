"""What a run tells MLflow, as values that can lie on a disk until they are delivered; delivering one twice is once."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeAlias

from extrapo.tracking import curves, description, heatmaps, looks, views

if TYPE_CHECKING:
    from mlflow import MlflowClient

Status: TypeAlias = Literal["FINISHED", "FAILED", "KILLED"]
#: Metrics that MLflow takes in one call.
PER_CALL = 1000


def now() -> int:
    """Milliseconds, as MLflow counts them."""
    return int(time.time() * 1000)


@dataclass(frozen=True)
class Destination:
    """A run in a store, and its folder here.

    Args:
        client: MLflow's client of the store.
        run_id: the run.
        folder: its local folder, where the files of entries lie.
    """

    client: MlflowClient
    run_id: str
    folder: Path
    _recorded: dict[str, int] = field(default_factory=dict, repr=False)

    def last_step(self, key: str) -> int:
        """The last step at which a scalar is recorded; -1 if never."""
        if key not in self._recorded:
            history = self.client.get_metric_history(self.run_id, key)
            self._recorded[key] = max((point.step for point in history), default=-1)
        return self._recorded[key]

    def scalars(self, entries: Iterable[Scalars]) -> None:
        """Record scalars in one call. What is recorded of a step already stays as it is: a run that was killed goes on
        from a checkpoint before it, and a server that did not answer may have taken what it was sent.
        """
        from mlflow.entities import Metric

        last: dict[str, int] = {}
        metrics = []
        for entry in entries:
            for key, value in entry.values.items():
                if entry.step > last.get(key, self.last_step(key)):
                    metrics.append(Metric(key, value, entry.time, entry.step))
                    last[key] = entry.step
        for start in range(0, len(metrics), PER_CALL):
            self.client.log_batch(self.run_id, metrics=metrics[start : start + PER_CALL])
        self._recorded.update(last)

    def forget(self) -> None:
        """After a failure nobody knows what was taken: ask again."""
        self._recorded.clear()


class Entry(Protocol):
    """Something to record, made of what JSON has."""

    kind: ClassVar[str]

    def deliver(self, to: Destination) -> None:
        """Record it, unless it is recorded."""


@dataclass(frozen=True)
class Scalars:
    """Training scalars of one step, all finite or NaN, and the time."""

    values: Mapping[str, float]
    step: int
    time: int
    kind: ClassVar[str] = "scalars"

    def deliver(self, to: Destination) -> None:
        """See Destination."""
        to.scalars([self])


@dataclass(frozen=True)
class Tag:
    """A tag."""

    key: str
    value: str
    kind: ClassVar[str] = "tag"

    def deliver(self, to: Destination) -> None:
        """The latest one stays."""
        to.client.set_tag(to.run_id, self.key, self.value)


@dataclass(frozen=True)
class Heatmaps:
    """The biases of a step, whose pictures and arrays lie in `files`, below the run's folder."""

    step: int
    layers: int
    files: str
    what: heatmaps.Kind = "bias"
    kind: ClassVar[str] = "heatmaps"

    def deliver(self, to: Destination) -> None:
        """Once delivered, the files are gone."""
        files = to.folder / self.files
        if files.is_dir():
            heatmaps.send(to.client, to.run_id, self.step, self.layers, files, self.what)
            views.refresh(to.client, to.run_id)
            # At once: with half of them gone they could not be delivered again.
            gone = files.with_name(f".{files.name}.gone")
            shutil.rmtree(gone, ignore_errors=True)
            files.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)
            with suppress(OSError):
                # It holds more where an outbox is at work.
                files.parent.rmdir()


@dataclass(frozen=True)
class Looks:
    """What the layers do at a step, which lies in `file`, below the run's folder."""

    file: str
    kind: ClassVar[str] = "looks"

    def deliver(self, to: Destination) -> None:
        """Once delivered, the file is gone."""
        path = to.folder / self.file
        if path.is_file():
            looks.send(to.client, to.run_id, path)
            path.unlink()
            with suppress(OSError):
                # Runs recorded before kept it beside other things.
                path.parent.rmdir()


@dataclass(frozen=True)
class Curve:
    """A curve, whose pictures and sheets lie in the run's folder; arguments as those of `Recorder.curve`."""

    rows: Sequence[Mapping[str, Any]]
    train_length: int
    step: int
    blocks: Mapping[str, Mapping[str, Any]]
    scores: Mapping[str, float]
    kind: ClassVar[str] = "curve"

    def deliver(self, to: Destination) -> None:
        """A curve of the same step is drawn once."""
        curves.send(to.client, to.run_id, self.rows, to.folder, train_length=self.train_length, step=self.step)
        curves.record_blocks(to.client, to.run_id, self.blocks)
        curves.record_scores(to.client, to.run_id, self.scores, self.step)
        description.describe(to.client, to.run_id, self.rows, self.train_length)
        views.refresh(to.client, to.run_id)


@dataclass(frozen=True)
class End:
    """How and when the run ended."""

    status: Status
    time: int
    kind: ClassVar[str] = "end"

    def deliver(self, to: Destination) -> None:
        """The last one stays."""
        to.client.set_terminated(to.run_id, self.status, self.time)


KINDS: dict[str, type[Any]] = {cls.kind: cls for cls in (Scalars, Tag, Heatmaps, Looks, Curve, End)}


def to_line(entry: Entry) -> str:
    """An entry as a line of JSON."""
    return json.dumps({"kind": entry.kind, **asdict(entry)})  # type: ignore[call-overload]


def of_line(line: str) -> Entry | None:
    """The entry of a line; None for one that was cut short as its process died, or is none."""
    try:
        found = json.loads(line)
        entry: Entry = KINDS[found.pop("kind")](**found)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return entry
