"""What happens beside the training: biases drawn as they grow, the curve at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import lightning as L
import numpy as np
import torch

from extrapo.attention import Choice
from extrapo.evaluation import Point, Progress, Protocol, Reading, extrapolation_curve
from extrapo.evaluation.look import LayerLook, looks
from extrapo.sharding import whole
from extrapo.training import LanguageModel

#: Called with the optimiser step and what each layer does.
DrawLooks = Callable[[int, list[LayerLook]], None]

#: Tokens of the sample whose biases are drawn, at most; more would be finer than a screen.
SAMPLE = 256


def drawing_steps(times: int, steps: int) -> list[int]:
    """At which optimiser steps biases are drawn `times` times: first before training, last after it, evenly between."""
    if times == 1:
        return [steps]
    return [round(steps * i / (times - 1)) for i in range(times)]


@contextmanager
def evaluating(module: L.LightningModule) -> Iterator[None]:
    """Evaluation mode while the block runs: looking at a model must not move the random state of its dropout."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)


class ComputePath(L.Callback):
    """Says at the start which back ends of attention serve, and why; and of a resumed run, where others served before:
    what is measured elsewhere, or anew, may come out otherwise.

    Args:
        say: receives the line, on rank 0.
        shape: (B, T) of a batch of one rank: the choice depends on it.
    """

    def __init__(self, say: Callable[[str], None], shape: tuple[int, int]) -> None:
        self.say, self.shape = say, shape
        self.choices: list[Choice] = []
        #: while nothing is trained.
        self.in_evaluation: list[Choice] = []
        self._before = ""

    def state_dict(self) -> dict[str, Any]:
        """What the checkpoint keeps."""
        return {"impl": self.impl}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """What served when the checkpoint was written."""
        self._before = state_dict.get("impl", "")

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Ask the model, in the precision in which it will train."""
        assert isinstance(pl_module, LanguageModel)
        with (
            evaluating(pl_module),
            whole(pl_module.gpt),
            trainer.precision_plugin.forward_context(),
        ):
            # All kinds of tokens: what is measured for the choice takes longer where a clock runs than where it stands.
            count = torch.arange(self.shape[0] * self.shape[1], device=pl_module.device)
            tokens = (count % pl_module.gpt.config.vocab_size).view(self.shape)
            with torch.enable_grad():
                self.choices = pl_module.gpt.choices(tokens)
            with torch.no_grad():
                self.in_evaluation = pl_module.gpt.choices(tokens)
        if trainer.is_global_zero:
            for choice in dict.fromkeys(self.choices):
                self.say(f"attention: {choice.impl} ({choice.reason})")
            for choice in dict.fromkeys(self.in_evaluation):
                if choice not in self.choices:
                    self.say(f"attention, in evaluation: {choice.impl} ({choice.reason})")
            if self._before not in ("", self.impl):
                self.say(
                    f"attention: {self._before} served up to the checkpoint: what follows agrees with an "
                    "uninterrupted run to rounding, not to the bit"
                )

    @property
    def impl(self) -> str:
        """The back ends' names, those of layers that differ joined by commas; empty before the start."""
        return ",".join(dict.fromkeys(choice.impl for choice in self.choices))


class Biases(L.Callback):
    """Looks at every layer and head on one sample of validation text, several times.

    Args:
        tokens: (N,) validation tokens; the first are the sample.
        train_length: T; the sample is no longer, nor longer than SAMPLE.
        steps: optimiser steps at which to draw.
        draw: receives the looks, on rank 0.
    """

    def __init__(self, tokens: np.ndarray[Any, Any], train_length: int, steps: Sequence[int], draw: DrawLooks) -> None:
        sample = np.asarray(tokens[: min(SAMPLE, train_length)], dtype=np.int64)
        self.sample = torch.from_numpy(sample).unsqueeze(0)
        self.steps = set(steps)
        self.draw = draw
        self._drawn_at = -1

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the start; what an earlier part of a resumed run drew is there already."""
        self._drawn_at = trainer.global_step
        if trainer.global_step == 0:
            self._draw(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Draw where it is due."""
        if trainer.global_step != self._drawn_at:
            self._draw(trainer, pl_module)

    def _draw(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._drawn_at = trainer.global_step
        if trainer.global_step not in self.steps:
            return
        assert isinstance(pl_module, LanguageModel)
        # Every rank computes: under a sharded strategy the weights come together only if all take part.
        with evaluating(pl_module), whole(pl_module.gpt):
            found = looks(pl_module.gpt, self.sample.to(pl_module.device))
        if trainer.is_global_zero:
            self.draw(trainer.global_step, found)


class LastValidation(L.Callback):
    """Validates after the last step as well, where that is no multiple of the steps between validations."""

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Lightning validates before it stops because it was asked to, not where it has come to the last step."""
        if trainer.global_step >= trainer.max_steps:
            trainer.should_stop = True


def has_bias(biases: Sequence[np.ndarray[Any, Any]]) -> bool:
    """Whether anything at all is added at or below the diagonal, or masked there; of (H, T, T) per layer."""
    return any(bool(np.any(np.tril(layer != 0))) for layer in biases)


class Curve(L.Callback):
    """Measures the extrapolation curve of the final weights; every rank takes its share of the windows.

    Args:
        tokens: (N,) validation tokens.
        lengths: evaluation lengths.
        wanted: tokens to score at most.
        protocol: which windows, see `evaluation.protocols`.
        steps: optimiser steps of the whole training; a run that ends before has no final weights.
        token_bytes: (V,) bytes of text that each token stands for.
        reading: over the borders of documents or not, and what stands before a window.
        skip: whether to leave it out, asked when training is over.
        progress: opens what shows the progress, see extrapolation_curve.
    """

    def __init__(
        self,
        tokens: np.ndarray[Any, Any],
        lengths: Sequence[int],
        wanted: int,
        protocol: Protocol,
        steps: int,
        *,
        token_bytes: np.ndarray[Any, Any] | None = None,
        reading: Reading = Reading(),  # noqa: B008
        skip: Callable[[], bool],
        progress: Callable[[], AbstractContextManager[Progress | None]] = nullcontext,
    ) -> None:
        self.tokens, self.lengths, self.wanted, self.protocol = tokens, lengths, wanted, protocol
        self.steps, self.skip, self.progress = steps, skip, progress
        self.token_bytes, self.reading = token_bytes, reading
        self.points: list[Point] = []

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure, in float32 where the weights are kept in it."""
        if self.skip() or trainer.global_step < self.steps:
            return
        assert isinstance(pl_module, LanguageModel)
        pl_module.eval()
        with self.progress() as progress:
            self.points = extrapolation_curve(
                pl_module.token_nll,
                self.tokens,
                self.lengths,
                tokens_wanted=self.wanted,
                protocol_name=self.protocol,
                token_bytes=self.token_bytes,
                reading=self.reading.by(pl_module),
                device=pl_module.device,
                rank=trainer.global_rank,
                ranks=trainer.world_size,
                progress=progress,
            )


class Products(L.Callback):
    """While a GPU trains in half precision, what is left of products in float32 may have as few digits: they then take
    the same fast units. What is measured afterwards has all.
    """

    def __init__(self) -> None:
        self._before = ""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Fewer digits."""
        self._before = torch.get_float32_matmul_precision()
        if pl_module.device.type != "cpu" and "mixed" in str(trainer.precision):
            torch.set_float32_matmul_precision("high")

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """As many as before."""
        torch.set_float32_matmul_precision(self._before)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """As many as before."""
        if self._before:
            torch.set_float32_matmul_precision(self._before)
