"""A trained run opened again: its model, its configuration, its tokenizer, its curves, and what can be asked of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray

from extrapo.config import EncodingFormSettings, MeasurementSettings, ResolvedConfig
from extrapo.data import Tokenizer
from extrapo.errors import UserError
from extrapo.gpt import GPT
from extrapo.location import Location
from extrapo.run.evaluate import measure
from extrapo.run.find import (
    check_vocabulary,
    find_checkpoint,
    parsed_config,
    recorded_config,
    sibling_file,
    sibling_tokenizer,
)
from extrapo.run.frames import frame
from extrapo.run.generate import Sampling, generate_text
from extrapo.tracking.curves import read_sheet
from extrapo.tracking.measured import read_measured
from extrapo.tracking.reading import trials
from extrapo.training import load_checkpoint

__all__ = ["LoadedRun", "find_checkpoint", "load", "parsed_config", "recorded_config", "sibling_file"]


@dataclass(frozen=True)
class LoadedRun:
    """A trained model and what lies beside it in the folder of its run; each part is read when it is asked for.

    Args:
        checkpoint: the file of the weights.
        location: where the run is recorded.
        device: where the model goes.
        impl: another compute path of attention than the run's.
        skip: see GPTConfig.
    """

    checkpoint: Path
    location: Location = field(default_factory=Location, repr=False)
    device: torch.device | str = "cpu"
    impl: str | None = None
    skip: float | None = None

    @cached_property
    def model(self) -> GPT:
        """The trained model, in evaluation mode."""
        return load_checkpoint(self.checkpoint, self.device, self.impl, self.skip).gpt

    @cached_property
    def config(self) -> ResolvedConfig:
        """The configuration as the run was trained; UserError if it does not lie beside the checkpoint."""
        return recorded_config(self.checkpoint)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """What the run's text was cut by; UserError if it does not lie beside the checkpoint, or has ids that
        the model has not.
        """
        found = sibling_tokenizer(self.checkpoint)
        check_vocabulary(self.checkpoint, found, self.model.config.vocab_size)
        return found

    @property
    def curves(self) -> dict[str, Any]:
        """The recorded curves as data frames, a row per length; lists of rows where pandas is not there.

        The run's own is under the name of its protocol; those that were measured later are under the names that they
        were recorded by. Empty if there is none.
        """
        rows: dict[str, list[Mapping[str, Any]]] = {}
        for row in read_sheet(self.checkpoint.parent):
            rows.setdefault(row["protocol"], []).append(row)
        for name, document in read_measured(self.checkpoint.parent).items():
            rows[name] = document["rows"]
        return {name: frame(of_curve) for name, of_curve in rows.items()}

    def evaluate(
        self,
        *,
        data: str | None = None,
        encoding: str | None = None,
        encoding_options: Mapping[str, Any] | None = None,
        kernel: str | None = None,
        record: bool = True,
        **settings: Any,
    ) -> Any:
        """The curve at other lengths, on other text, under another protocol or encoding, as a data frame.

        Args:
            data: another text, as for `extrapo fit`.
            encoding: another one on the trained weights, see `run.another`.
            encoding_options, kernel: of that one.
            record: keep the curve in the run, where it can be, as the command does.
            settings: those of `MeasurementSettings`: lengths, eval_tokens, protocol, stride, last, impl, skip.

        Raises:
            UserError: see `run.evaluate.measure`.
            pydantic.ValidationError: a setting that there is not.
        """
        chosen: dict[str, Any] = {"skip": self.skip, **({"impl": self.impl} if self.impl else {}), **settings}
        (found,) = measure(
            [str(self.checkpoint)],
            self.location,
            settings=MeasurementSettings(**chosen),
            encodings=[] if encoding is None else [encoding],
            form=EncodingFormSettings(encoding_options=dict(encoding_options or {}), kernel=kernel),
            data=data,
            device=torch.device(self.device).type,
            recorded=record,
        )
        return frame(found.rows)

    def biases(self, text: str) -> list[NDArray[np.float32]]:
        """What each layer adds to s q.k on the tokens of a text, (H, T, T) each, -inf above the diagonal.

        Raises:
            UserError: a text of no token.
        """
        ids = torch.tensor([self.tokenizer.encode(text)], dtype=torch.int64, device=self.device)
        return [bias[0].cpu().numpy() for bias in self.model.biases(ids)]

    def generate(self, prompt: str, *, tokens: int = 200, **sampling: Any) -> str:
        """The text that the model writes after a prompt, which is not repeated.

        Args:
            prompt: at least one character.
            tokens: how many to write.
            sampling: temperature, top_k, top_p, seed; see `Sampling`.

        Raises:
            UserError: nothing to go on from, or a value out of range.
        """
        pieces = generate_text(self.model, self.tokenizer, prompt, Sampling(**sampling), tokens=tokens)
        return "".join(text for text, _ in pieces)


@overload
def load(
    run: str | Path,
    *,
    root: str | Path = ...,
    tracking_uri: str | None = ...,
    device: torch.device | str = ...,
    impl: str | None = ...,
    skip: float | None = ...,
) -> LoadedRun: ...


@overload
def load(
    run: list[str] | list[Path] | tuple[str | Path, ...] | None = ...,
    *,
    sweep: str | None = ...,
    root: str | Path = ...,
    tracking_uri: str | None = ...,
    device: torch.device | str = ...,
    impl: str | None = ...,
    skip: float | None = ...,
) -> list[LoadedRun]: ...


def load(
    run: str | Path | list[str] | list[Path] | tuple[str | Path, ...] | None = None,
    *,
    sweep: str | None = None,
    root: str | Path = "runs",
    tracking_uri: str | None = None,
    device: torch.device | str = "cpu",
    impl: str | None = None,
    skip: float | None = None,
) -> LoadedRun | list[LoadedRun]:
    """Open a trained run, or several. Only tensors and plain values are read from a checkpoint, never code.

    Args:
        run: its id, the beginning of it, its name, or `last`; or the path of its folder or of a checkpoint in it.
            A list of these gives a list of runs, whose models are read when they are asked for.
        sweep: all finished runs of a sweep, oldest first.
        root: folder of all runs.
        tracking_uri: MLflow server or database; None is SQLite in the root.
        device: where the model goes.
        impl: another compute path of attention than the run's.
        skip: see GPTConfig.

    Raises:
        UserError: no such run or file, or a run that stopped before its first checkpoint.
    """
    if (run is None) == (sweep is None):
        raise UserError("name a run, several, or a `sweep`")
    location = Location(Path(root), tracking_uri)
    if isinstance(run, str | Path):
        opened = LoadedRun(find_checkpoint(str(run), location), location, device, impl, skip)
        # What is no checkpoint is told now, not when the model is first used.
        _ = opened.model
        return opened
    names = [str(one) for one in run] if run is not None else trials(str(sweep), location)
    return [LoadedRun(find_checkpoint(name, location), location, device, impl, skip) for name in names]


def check_finite(gpt: GPT, checkpoint: Path) -> None:
    """Whether every weight of a model is a number.

    Raises:
        UserError: one is none, as after a training that diverged.
    """
    for name, weight in gpt.named_parameters():
        if not weight.isfinite().all():
            raise UserError(f"the weights in '{checkpoint}' are not finite ({name}): its training diverged")
