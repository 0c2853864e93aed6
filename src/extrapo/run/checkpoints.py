"""Checkpoints that are whole or not there, and a Ctrl-C that loses nothing."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint

from extrapo.errors import MachineError, UserError, refusal
from extrapo.files import atomic_write
from extrapo.interruption import stops
from extrapo.training import PRECISIONS, LanguageModel, parameter_groups, read_checkpoint

#: Bytes that a disk has left when it is full: less than a block.
LITTLE = 1 << 20


def check_resumable(path: Path, module: LanguageModel) -> None:
    """Whether training can go on from a checkpoint: it is whole, and of this model.

    Raises:
        UserError: it cannot; the message says what can be done.
    """
    best = path.with_name("best.ckpt")
    instead = f"copy '{best}' over it to go on from there" if best.is_file() else "remove it to start again"
    try:
        found = read_checkpoint(path)
        weights, expected = found["state_dict"], module.state_dict()
        missing = {"optimizer_states", "lr_schedulers", "loops", "global_step"} - set(found)
        wrong = [name for name in {*weights, *expected} if shape(weights, name) != shape(expected, name)]
        if not missing and not wrong:
            check_state(found, module)
    except Exception as cause:
        # A file that is cut short, or of something else, ends in whatever its reader meets.
        raise UserError(f"'{path}' is damaged, or no checkpoint of a training; {instead}") from cause
    if missing:
        raise UserError(f"'{path}' has no state of a training ({', '.join(sorted(missing))}); {instead}")
    if wrong:
        raise UserError(f"'{path}' is of another model: {min(wrong)} differs; {instead}")


def check_state(found: Mapping[str, Any], module: LanguageModel) -> None:
    """Whether the state of a training is one that Lightning can take up: it would end within, or go on from anything.

    Raises:
        ValueError: it is not; or what else comes of reading it.
    """
    real = [name for name, weight in module.state_dict().items() if weight.is_floating_point()]
    kinds = {found["state_dict"][name].dtype for name in real}
    if len(kinds) != 1 or not kinds <= set(PRECISIONS):
        raise ValueError("weights that are not all real numbers of one precision")
    step, steps = found["global_step"], int(module.hparams["steps"])
    if type(step) is not int or not 0 <= step <= steps:
        raise ValueError(f"step {step!r} of {steps}")
    trained = [one for group in parameter_groups(module.gpt, module.hparams["weight_decay"]) for one in group["params"]]
    if not found["optimizer_states"] or not found["lr_schedulers"]:
        raise ValueError("no optimizer")
    for state in found["optimizer_states"]:
        sizes = [len(group["params"]) for group in state["param_groups"]]
        for number, moments in state["state"].items():
            # By name where weights are sharded; where some never had a gradient, there are more numbers than weights.
            known = isinstance(number, int) and sum(sizes) == len(trained)
            if known and moments["exp_avg"].shape != trained[number].shape:
                raise ValueError("moments of other weights")
    if not all(isinstance(one["last_epoch"], int) for one in found["lr_schedulers"]):
        raise ValueError("no schedule")
    if not isinstance(found["loops"]["fit_loop"], dict) or not isinstance(found["callbacks"], dict):
        raise ValueError("no loops")
    cpu = found["rng"]["cpu"]
    if (cpu.dtype, cpu.shape) != (torch.uint8, torch.get_rng_state().shape):
        raise ValueError("no state of a generator")


def shape(weights: Mapping[str, torch.Tensor], name: str) -> tuple[int, ...] | None:
    """The shape of a weight; None where there is none of that name."""
    return tuple(weights[name].shape) if name in weights else None


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, flushes, then renames: a full disk or a kill leaves the old file as it was."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Save to `path`; MachineError with one line where the disk refuses."""
        target = Path(path)
        if not target.parent.is_dir():
            raise MachineError(f"cannot write the checkpoint '{target}': its folder was deleted or moved")
        try:
            with atomic_write(target, durable=True) as file:
                torch.save(checkpoint, file)
        except (OSError, RuntimeError) as cause:
            reason = refusal(cause) or (cause.strerror if isinstance(cause, OSError) else None)
            if reason is None:
                # torch reports a failed write as a RuntimeError of its archive writer, and hides the system's reason.
                full = shutil.disk_usage(target.parent).free < LITTLE
                reason = "the disk is full" if full else " ".join(str(cause).split())[:200]
            raise MachineError(f"cannot write the checkpoint '{target}': {reason}; what was there is kept") from cause


class BestCheckpoint(ModelCheckpoint):
    """Keeps `best.ckpt`, that of the lowest validation loss; in a folder that was moved as well.

    Lightning forgets there what the best loss was, and writes the next one over it, however bad.

    Args:
        folder: where it goes.
    """

    NAME = "best"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, filename=self.NAME, monitor="val/loss", enable_version_counter=False)

    @property
    def state_key(self) -> str:
        """Its name in a checkpoint: that of Lightning's own, as it was before this class."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Know the best one again where it lies now; where it is gone, the next one is the best."""
        assert self.dirpath is not None
        here = Path(self.dirpath) / f"{self.NAME}{self.FILE_EXTENSION}"
        if not here.is_file():
            return
        scores = state_dict["best_k_models"].values()
        paths = ("best_model_path", "kth_best_model_path")
        moved = {"dirpath": self.dirpath, "best_k_models": {str(here): score for score in scores}}
        super().load_state_dict({**state_dict, **moved, **{name: state_dict[name] and str(here) for name in paths}})


class LastCheckpoint(Checkpoint):
    """Keeps `last.ckpt`: after each validation, at the end, and when a signal asks to stop.

    A signal lets the current optimiser step finish, saves, and stops; a second one stops at once. After a validation
    that is due, not before it: a run that is killed goes on from what is recorded, where the losses of the step and of
    the validation already stand, and the best checkpoint knows of them. (A `Checkpoint`, since Lightning calls these
    after all other callbacks, in their order: this one comes behind that of the best.)

    Args:
        folder: where `last.ckpt` goes.
        every: optimiser steps between validations.
        say: receives a line when a first signal has come.
    """

    #: With several processes the wish to stop is agreed on every so many steps, not at each: it costs a message.
    AGREE_EVERY = 8

    def __init__(self, folder: Path, every: int, say: Callable[[str], None] = lambda line: None) -> None:
        self.path = folder / "last.ckpt"
        self.every, self.say = every, say
        self.interrupted = False
        self._saved_at = self._step = -1
        self._stop_at_once: list[tuple[int, Any]] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the signals over while training runs."""
        self._saved_at = self._step = trainer.global_step
        for number in stops():
            if trainer.global_rank and signal.getsignal(number) is signal.SIG_IGN:
                continue  # the first rank answers
            self._stop_at_once.append((number, signal.signal(number, self._ask)))

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True
        # It may have come in the midst of another line.
        with suppress(RuntimeError):
            self.say("stopping: this step is finished and saved (a second signal stops at once)")

    def needed(self) -> int:
        """How many signals stop the run at once."""
        return 2 if self._stop_at_once else 1

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and stop where it is asked for."""
        step = trainer.global_step
        if step == self._step:
            return  # in the middle of an accumulated step, whose gradients no checkpoint holds
        self._step = step
        stop = self.interrupted
        if trainer.world_size > 1:
            stop = step % self.AGREE_EVERY == 0 and trainer.strategy.reduce_boolean_decision(stop, all=False)
        if stop:
            self.interrupted = True
            trainer.should_stop = True
            # A validation that follows this step in any case is waited for: stopped in it by a second signal, the run
            # goes on from the checkpoint before, since from one in between Lightning would leave the validation out.
            if step % self.every != 0 and step < trainer.max_steps:
                self._save(trainer)
                # Lightning would validate once more, where a run that is not stopped does not.
                trainer.limit_val_batches = 0

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save what has been validated and recorded; not where Lightning validates because the run is to stop: from
        there its loop would not go on.
        """
        if trainer.global_step % self.every == 0:
            self._save(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the final weights and give the signals back."""
        if self._saved_at != trainer.global_step:
            self._save(trainer)
        self._release()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Give the signals back."""
        self._release()

    def _save(self, trainer: L.Trainer) -> None:
        self._saved_at = trainer.global_step
        trainer.save_checkpoint(self.path)

    def _release(self) -> None:
        while self._stop_at_once:
            number, handler = self._stop_at_once.pop()
            restore: Callable[..., Any] | int | None = handler
            signal.signal(number, restore)
