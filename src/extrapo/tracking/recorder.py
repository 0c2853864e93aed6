"""One run in MLflow: its configuration, tags, curve, heatmaps, checkpoints and status."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from extrapo.evaluation.look import LayerLook
from extrapo.figures import colour
from extrapo.files import write_text
from extrapo.tracking import configuration, curves, heatmaps, looks, views
from extrapo.tracking.revision import commit
from extrapo.tracking.store import RunStore

if TYPE_CHECKING:
    from extrapo.tracking.logger import RunLogger

Status: TypeAlias = Literal["FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True)
class Recorder:
    """The record of one run.

    Args:
        store: where it is kept.
        run_id: MLflow's id of the run.
    """

    store: RunStore
    run_id: str

    @classmethod
    def start(
        cls, store: RunStore, name: str, *, config: Mapping[str, Any], tags: Mapping[str, str] | None = None
    ) -> Recorder:
        """Start a run.

        Args:
            store: the open store.
            name: what the run is called; need not be unique.
            config: the run's configuration; its `encoding` gives the run its colour.
            tags: more tags; `extrapo.corpus` and `extrapo.corpus_sha256` also fill MLflow's Dataset column.
        """
        from mlflow.tracking.context.registry import resolve_tags

        encoding = str(config.get("encoding", "unknown"))
        own = {
            "extrapo.encoding": encoding,
            "mlflow.runColor": colour(encoding),
            "mlflow.source.name": "extrapo",
            "mlflow.source.git.commit": commit() or "",
            **(tags or {}),
        }
        every = {key: value for key, value in resolve_tags(own).items() if value}
        run = store.client.create_run(store.experiment_id, run_name=name, tags=every)
        recorder = cls(store, run.info.run_id)
        with recorder.ended_early():
            recorder.config(config)
            recorder._dataset(own)
        return recorder

    @classmethod
    def resume(cls, store: RunStore, run_id: str) -> Recorder:
        """Go on with a run that ended: it is running again and has no end; its parameters stay."""
        from mlflow.entities import RunStatus

        # The public client cannot unset an end time; 0 is what every MLflow store and page reads as none.
        store.client._tracking_client.store.update_run_info(run_id, RunStatus.RUNNING, 0, None)
        return cls(store, run_id)

    @contextmanager
    def ended_early(self) -> Iterator[None]:
        """What ends the block before its end also ends the run, which would be RUNNING for ever."""
        try:
            yield
        except BaseException as cause:
            # Where the database is what failed, the first failure is the one to tell.
            with suppress(Exception):
                self.finish("KILLED" if isinstance(cause, KeyboardInterrupt | SystemExit) else "FAILED")
            raise

    @property
    def folder(self) -> Path:
        """The run's local folder, for checkpoints and for copies of the pictures."""
        folder = self.store.location.folder(self.run_id)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def logger(self) -> RunLogger:
        """A Lightning logger that writes training scalars into this run."""
        from extrapo.tracking.logger import RunLogger

        return RunLogger(self.store.location.uri, self.run_id, self.folder)

    def tag(self, key: str, value: object) -> None:
        """Set a tag."""
        self.store.client.set_tag(self.run_id, key, value)

    def config(self, config: Mapping[str, Any]) -> None:
        """Record the configuration as `config.yaml`, and as parameters where there are none of that name."""
        configuration.record(self.store.client, self.run_id, config, self.folder)

    def file(self, name: str, text: str) -> Path:
        """Keep a text file in the run's folder and among its artifacts; returns the local one."""
        path = write_text(self.folder / name, text)
        self.store.client.log_artifact(self.run_id, str(path))
        return path

    def curve(
        self,
        rows: Sequence[Mapping[str, Any]],
        *,
        train_length: int,
        encoding: str,
        step: int,
        blocks: Mapping[int, Mapping[str, Any]] | None = None,
        scores: Mapping[str, float] | None = None,
    ) -> Path:
        """Record the extrapolation curve as scalars, table, CSV and picture.

        Args:
            rows: one per length: `length`, `nll` and `ppl` (None if not applicable), `tokens`, `protocol`.
            train_length: T.
            encoding: the curve's name in the picture.
            step: optimiser steps taken when it was measured.
            blocks: the losses of each length in stretches of the text, for comparisons.
            scores: what the curve comes to, by name.

        Returns:
            The picture, in the run's folder.
        """
        picture = curves.record(
            self.store.client,
            self.run_id,
            rows,
            self.folder,
            train_length=train_length,
            encoding=encoding,
            step=step,
        )
        curves.record_blocks(self.store.client, self.run_id, blocks or {})
        curves.record_scores(self.store.client, self.run_id, scores or {}, step)
        views.refresh(self.store.client, self.run_id)
        return picture

    def heatmaps(self, step: int, biases: Sequence[NDArray[np.floating[Any]]]) -> None:
        """Record each layer's bias (H, T, T) as a picture and as an array, at this optimiser step."""
        heatmaps.record(self.store.client, self.run_id, step, biases)
        views.refresh(self.store.client, self.run_id)

    def looks(self, step: int, layers: Sequence[LayerLook], tokens: NDArray[np.integer[Any]]) -> None:
        """Record what each layer's attention does on these tokens at this optimiser step, as arrays."""
        looks.record(self.store.client, self.run_id, step, layers, tokens)

    def checkpoint(self, last: Path, best: Path) -> None:
        """Record where the last and the best checkpoint lie."""
        self.tag("extrapo.checkpoint.last", Path(last).resolve())
        self.tag("extrapo.checkpoint.best", Path(best).resolve())

    def finish(self, status: Status) -> None:
        """End the run."""
        self.store.client.set_terminated(self.run_id, status)

    def _dataset(self, tags: Mapping[str, str]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag
        from mlflow.exceptions import MlflowException

        name, digest = tags.get("extrapo.corpus"), tags.get("extrapo.corpus_sha256")
        if not name or not digest:
            return
        dataset = Dataset(name=name, digest=digest[:32], source_type="local", source=name)
        inputs = [DatasetInput(dataset, [InputTag("mlflow.data.context", "train")])]
        try:
            self.store.client.log_inputs(self.run_id, inputs)
        except MlflowException:
            # Of two runs that begin at once with a new text, MLflow lets one write it; by now it is there for both.
            self.store.client.log_inputs(self.run_id, inputs)
