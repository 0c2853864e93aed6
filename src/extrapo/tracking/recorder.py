"""One run in MLflow: its configuration, tags, curve, heatmaps, checkpoints and status."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from extrapo.config.cell import cell_name
from extrapo.figures import colour
from extrapo.files import write_text
from extrapo.location import UNDELIVERED
from extrapo.tracking import configuration, curves, heatmaps, looks, views
from extrapo.tracking.entries import Curve, Destination, End, Entry, Heatmaps, Looks, Status, Tag, now
from extrapo.tracking.outbox import Journal, Outbox, without_end
from extrapo.tracking.revision import commit
from extrapo.tracking.store import RunStore

if TYPE_CHECKING:
    from extrapo.evaluation.look import LayerLook
    from extrapo.tracking.logger import RunLogger


@dataclass(frozen=True)
class Recorder:
    """The record of one run.

    Args:
        store: where it is kept.
        run_id: MLflow's id of the run.
        outbox: what is recorded goes through it; None records at once, and fails where the store does.
    """

    store: RunStore
    run_id: str
    outbox: Outbox | None = None

    @classmethod
    def start(
        cls, store: RunStore, name: str, *, config: Mapping[str, Any], tags: Mapping[str, str] | None = None
    ) -> Recorder:
        """Start a run.

        Args:
            store: the open store.
            name: what the run is called; need not be unique.
            config: the run's configuration; its `encoding` gives the run its colour, all of it but the seed its cell.
            tags: more tags; `extrapo.corpus` and `extrapo.corpus_sha256` also fill MLflow's Dataset column.
        """
        from mlflow.tracking.context.registry import resolve_tags

        encoding = str(config.get("encoding", "unknown"))
        own = {
            "extrapo.encoding": encoding,
            "mlflow.runColor": colour(encoding),
            **_cell(config),
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

    def patient(self, say: Callable[[str], None]) -> Recorder:
        """The same record for a long training: it takes all at once, and delivers when the store is there. What an
        earlier process of the run has left is delivered first. Ends with `finish`.

        Args:
            say: receives a line when the store is away.

        Raises:
            UserError: another process is at work on the run.
        """
        # While the store is there: it gives the pictures their title.
        encoding = self.encoding
        journal = Journal(self.folder)
        journal.left = without_end(journal.left)
        to = Destination(self.store.client, self.run_id, self.folder)
        patient = replace(self, outbox=Outbox(to, journal, self.store.location.uri, say))
        patient.__dict__["encoding"] = encoding
        return patient

    @cached_property
    def encoding(self) -> str:
        """The run's encoding, as it is recorded."""
        return str(self.store.client.get_run(self.run_id).data.tags.get("extrapo.encoding", "bias"))

    def record(self, entry: Entry) -> None:
        """Record an entry, now or when the store is there."""
        if self.outbox is not None:
            self.outbox.put(entry)
        else:
            entry.deliver(Destination(self.store.client, self.run_id, self.folder))

    def later(self, entry: Entry, say: Callable[[str], None]) -> None:
        """Record an entry of a run on which nobody is at work: now, or by `extrapo deliver` when the store is back.

        Args:
            entry: what.
            say: receives a line when the store is away.
        """
        to = Destination(self.store.client, self.run_id, self.folder)
        outbox = Outbox(to, Journal(self.folder), self.store.location.uri, say)
        try:
            outbox.put(entry)
        finally:
            outbox.close()

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

        return RunLogger(self.record, self.folder)

    def tag(self, key: str, value: object) -> None:
        """Set a tag."""
        self.record(Tag(key, str(value)))

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
        picture = curves.draw(rows, self.folder, train_length=train_length, encoding=encoding, step=step)
        by_length = {str(length): dict(of_length) for length, of_length in (blocks or {}).items()}
        self.record(Curve(list(map(dict, rows)), train_length, step, by_length, dict(scores or {})))
        return picture

    def heatmaps(
        self,
        step: int,
        matrices: heatmaps.Matrices,
        *,
        kind: heatmaps.Kind = "bias",
        tokens: NDArray[np.integer[Any]] | None = None,
    ) -> None:
        """Record each layer's bias (H, T, T), or log10 of its weights, as pictures and as an array, at this optimiser
        step; `tokens` are the ids (T,) of the sample.
        """
        files = self._place(step)
        heatmaps.draw(self.folder / files, self.encoding, step, matrices, kind=kind, tokens=tokens)
        self.record(Heatmaps(step, len(matrices), files, kind))

    def looks(self, step: int, layers: Sequence[LayerLook], tokens: NDArray[np.integer[Any]]) -> None:
        """Record what each layer's attention does on these tokens at this optimiser step, as arrays."""
        file = f"{self._place(step)}/{looks.name(step)}"
        looks.keep(self.folder / file, layers, tokens)
        self.record(Looks(file))

    def _place(self, step: int) -> str:
        """A folder of its own for what is drawn at a step, below the run's: what a run that was killed has drawn of
        the same step may be on its way, and is deleted when it has arrived.
        """
        waiting = self.folder / UNDELIVERED
        waiting.mkdir(parents=True, exist_ok=True)
        return f"{UNDELIVERED}/{Path(mkdtemp(prefix=f'step-{step:06d}-', dir=waiting)).name}"

    def checkpoint(self, last: Path, best: Path) -> None:
        """Record where the last and the best checkpoint lie."""
        self.tag("extrapo.checkpoint.last", Path(last).resolve())
        self.tag("extrapo.checkpoint.best", Path(best).resolve())

    def finish(self, status: Status) -> None:
        """End the run; through an outbox, when all before it is delivered, or as soon as the store is there again."""
        try:
            self.record(End(status, now()))
        finally:
            if self.outbox is not None:
                self.outbox.close()

    @property
    def is_delivered(self) -> bool:
        """Whether the store has all that was recorded."""
        return self.outbox is None or self.outbox.is_delivered

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


def _cell(config: Mapping[str, Any]) -> dict[str, str]:
    """The tag that runs are grouped by; none for what is no configuration of ours."""
    try:
        return {views.CELL: cell_name(config)}
    except ValueError:  # pydantic's ValidationError is one
        return {}
