"""The LightningModule: backbone, encoding and kernel from their registries, AdamW, warmup and cosine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import lightning as L
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from extrapo.attention import check_impl
from extrapo.config import GPTConfig
from extrapo.errors import UserError, complaints
from extrapo.evaluation.metric import LengthNLL
from extrapo.gpt import GPT
from extrapo.loss import mean_nll, token_nll
from extrapo.sharding import shard

#: (B, T + 1) token ids; where rows hold several documents, with the (B, T + 1) document of its row of each token.
Batch: TypeAlias = Tensor | tuple[Tensor, Tensor]


#: What the weights of a model are.
PRECISIONS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
#: Where a cosine ends, as a share of the peak.
FLOOR = 0.1


def learning_rate(step: int, *, peak: float, warmup: int, steps: int, floor: float = FLOOR) -> float:
    """Rate of optimiser step `step` (from 0): linear up to `peak`, then a cosine down to `floor` of it."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, steps - warmup))
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)))


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Decay on the weights of linear maps, convolutions and embeddings alone: not on biases and norms, nor on what an
    encoding means by its other parameters (slopes, widths, tables of a bias), for which 0 is no neutral value.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    decayed = {name for name, p in trained.items() if name.endswith("weight") and p.dim() > 1}
    return [
        {"params": [p for name, p in trained.items() if name in decayed], "weight_decay": weight_decay},
        {"params": [p for name, p in trained.items() if name not in decayed], "weight_decay": 0.0},
    ]


def without_idle(state: dict[str, Any], sizes: list[int]) -> dict[str, Any]:
    """An optimiser's state for groups of `sizes` weights. Where it is of more, those go that never had a gradient.

    Once a hybrid had idle weights in some of its layers.
    """
    groups = [[n for n in group["params"] if n in state["state"]] for group in state["param_groups"]]
    if [len(group["params"]) for group in state["param_groups"]] == sizes or [len(group) for group in groups] != sizes:
        return state
    numbers = {old: new for new, old in enumerate(n for group in groups for n in group)}
    return {
        "state": {numbers[n]: moments for n, moments in state["state"].items()},
        "param_groups": [
            {**group, "params": [numbers[n] for n in kept]}
            for group, kept in zip(state["param_groups"], groups, strict=True)
        ],
    }


class LanguageModel(L.LightningModule):
    """Trains a GPT on (B, T + 1) token ids, which may be packed (see Batch).

    Args:
        model: a GPTConfig as a plain dict (so that checkpoints load without running code).
        lr: peak learning rate.
        warmup: optimiser steps of linear warmup.
        steps: optimiser steps in all, where the cosine ends.
        weight_decay: decay on matrices.
        compile: compile the blocks.
        swap_step: step at which the model's second encoding takes over (DroPE, 2512.12167), with a warmup and a
            cosine of its own until `steps`.
        swap_lr: peak learning rate from there; it and the next may be None where there is no swap.
        swap_warmup: optimiser steps of warmup from there, no more than are left.
        swap_schedule: what follows it, `cosine` or `constant`.
        swap_optimizer: what becomes of the optimiser's moments there: `same`, they go on, or `fresh`, they begin anew.
    """

    def __init__(
        self,
        model: dict[str, Any],
        *,
        lr: float = 6e-4,
        warmup: int = 0,
        steps: int = 1,
        weight_decay: float = 0.1,
        compile: bool = False,
        swap_step: int | None = None,
        swap_lr: float | None = 6e-4,
        swap_warmup: int | None = 0,
        swap_schedule: str = "cosine",
        swap_optimizer: str = "same",
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.gpt = GPT(GPTConfig(**model))
        self.validation = LengthNLL()
        self._losses_of, self._losses = -1, list[Tensor]()
        if compile:
            for block in self.gpt.blocks:
                block.compile()

    def configure_model(self) -> None:
        """Shard the model where the strategy brings a mesh of devices (`--strategy fsdp`)."""
        if self.device_mesh is not None:
            shard(self.gpt, self.device_mesh["data_parallel"])

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T) -> (B, T, V) logits."""
        return self.gpt(tokens)  # type: ignore[no-any-return]

    def token_nll(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """(B, T) inputs and targets -> (B, T) losses in nats, without B x T x V logits."""
        return token_nll(self.gpt.hidden(inputs), self.gpt.unembedding.weight, targets)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Let the second encoding take over when its step has come, also in a run that is resumed past it."""
        swap = self.hparams["swap_step"]
        if swap is not None and self.gpt.phase == 0 and self.trainer.global_step >= swap:
            self.gpt.swap()
            if self.hparams["swap_optimizer"] == "fresh":
                for optimizer in self.trainer.optimizers:
                    optimizer.state.clear()

    def rate(self, step: int) -> float:
        """The learning rate of optimiser step `step`, as a share of the first peak."""
        h = self.hparams
        end, swap = h["steps"], h["swap_step"]
        if swap is None:
            return learning_rate(step, peak=1.0, warmup=h["warmup"], steps=end)
        if step < swap:
            return learning_rate(step, peak=1.0, warmup=h["warmup"], steps=swap)
        peak, warmup = h["swap_lr"] / h["lr"], h["swap_warmup"]
        floor = 1.0 if h["swap_schedule"] == "constant" else FLOOR
        return learning_rate(step - swap, peak=peak, warmup=warmup, steps=end - swap, floor=floor)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Mean loss of a micro-batch, over all its targets."""
        loss = self._loss(batch) if isinstance(batch, Tensor) else self._packed_loss(*batch)
        self.log("train/loss", self._mean_of_step(loss.detach()))
        return loss

    def _mean_of_step(self, loss: Tensor) -> Tensor:
        """The mean over this rank's micro-batches so far of an optimiser step, this one included."""
        step = self.global_step
        if step != self._losses_of:
            self._losses_of, self._losses = step, []
        self._losses.append(loss)
        return torch.stack(self._losses).mean()

    def _loss(self, tokens: Tensor) -> Tensor:
        return mean_nll(self.gpt.hidden(tokens[:, :-1]), self.gpt.unembedding.weight, tokens[:, 1:])

    def _packed_loss(self, tokens: Tensor, documents: Tensor) -> Tensor:
        """As if each document stood alone: the first token of the next one is no target of the one before."""
        hidden = self.gpt.hidden(tokens[:, :-1], documents[:, :-1])
        within = documents[:, 1:] == documents[:, :-1]
        return mean_nll(hidden[within].unsqueeze(0), self.gpt.unembedding.weight, tokens[:, 1:][within].unsqueeze(0))

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Record the rate of the coming step."""
        self.log("train/lr", optimizer.param_groups[0]["lr"])

    def validation_step(self, batch: Tensor | tuple[Tensor, int], batch_idx: int) -> None:
        """Add a batch of windows (B, T + 1) to the validation loss; of a pair, so many of the first rows count."""
        rows, counted = batch if isinstance(batch, tuple | list) else (batch, len(batch))
        self.validation.update(self.token_nll(rows[:, :-1], rows[:, 1:])[:counted])

    def on_validation_epoch_end(self) -> None:
        """The validation loss over all ranks; the run records it, at the step after which it was measured."""
        mean, _ = self.validation.compute()
        self.log("val/loss", mean.float(), prog_bar=True, logger=False)
        self.validation.reset()

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """By the norm of all; under autocast Lightning itself clips none beside a fused optimiser, even in bfloat16."""
        if gradient_clip_val and self.trainer.precision == "bf16-mixed":
            torch.nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)
            return
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def configure_optimizers(self) -> Any:
        """AdamW (0.9, 0.95) with the schedule per step."""
        h = self.hparams
        groups = parameter_groups(self.gpt, h["weight_decay"])
        # Beside a loss that is scaled, gradients must be seen before the step.
        scaled = self._trainer is not None and self.trainer.precision == "16-mixed"
        fused = self.device.type in ("cpu", "cuda") and not scaled
        optimizer = torch.optim.AdamW(groups, lr=h["lr"], betas=(0.9, 0.95), eps=1e-8, fused=fused)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the random state, so that a run with dropout also resumes exactly."""
        checkpoint["rng"] = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            checkpoint["rng"]["cuda"] = torch.cuda.get_rng_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the random state; leave out of the optimiser's what weights had that the model has no more."""
        sizes = [len(group["params"]) for group in parameter_groups(self.gpt, self.hparams["weight_decay"])]
        states = checkpoint.get("optimizer_states", [])
        checkpoint["optimizer_states"] = [without_idle(state, sizes) for state in states]
        rng = checkpoint.get("rng", {})
        if "cpu" in rng:
            torch.set_rng_state(rng["cpu"].cpu())
        if "cuda" in rng and torch.cuda.is_available():
            torch.cuda.set_rng_state(rng["cuda"].cpu())


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What a checkpoint holds, tensors and plain values only, on the CPU; every byte as it was written.

    PyTorch writes a checksum of each tensor and does not look at it when it reads. It compresses nothing: what is small
    here and large when it is read, others have made.

    Raises:
        UserError: a bit of it is not as it was, or it is compressed.
        Exception: whatever a file of something else leads to.
    """
    with ZipFile(path) as archive:
        if any(entry.compress_type != ZIP_STORED for entry in archive.infolist()):
            raise UserError(f"'{path}' is compressed, which no checkpoint of PyTorch is")
        try:
            damaged = archive.testzip()
        except BadZipFile as cause:
            raise UserError(f"'{path}' is damaged: {cause}") from cause
        if damaged is not None:
            raise UserError(f"'{path}' is damaged: the checksum of '{damaged}' differs")
    checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return checkpoint


def check_size(config: GPTConfig, weights: Mapping[str, Tensor]) -> None:
    """Whether so many weights can be those of a model, before it is made.

    Raises:
        UserError: a table of tokens and two matrices of each layer would be more, or one is no dense tensor.
    """
    for name, weight in weights.items():
        if not isinstance(weight, Tensor) or weight.layout != torch.strided or weight.is_quantized:
            raise UserError(f"its {name!r} is no dense tensor")
    # A tensor that repeats what little it stores may have any shape.
    stored = {weight.untyped_storage().data_ptr(): weight.untyped_storage().nbytes() for weight in weights.values()}
    there = min(sum(weight.numel() for weight in weights.values()), sum(stored.values()))
    least = config.vocab_size * config.dim + 2 * config.layers * config.dim**2
    if least > there:
        raise UserError(f"it holds {there:,} weights, and its model has at least {least:,}")


def check_dtypes(weights: Mapping[str, Tensor], model: nn.Module) -> None:
    """Whether weights are numbers of the kind that a model has: PyTorch would turn them into it without a word.

    Raises:
        UserError: some are complex, integers, of eight bits, or of another precision than the others.
    """
    for name, expected in model.state_dict().items():
        if name in weights and weights[name].dtype != expected.dtype:
            found, wanted = (str(one).removeprefix("torch.") for one in (weights[name].dtype, expected.dtype))
            raise UserError(f"its {name!r} is {found}, not {wanted}")


def load_checkpoint(
    path: Path | str, device: torch.device | str = "cpu", impl: str | None = None, skip: float | None = None
) -> LanguageModel:
    """The model of a checkpoint, in evaluation mode and in the precision of its weights. Loads tensors and plain values
    only, never code.

    Args:
        path: a `.ckpt` file that `extrapo fit` wrote.
        device: where to put it.
        impl: another compute path of attention than the run's.
        skip: see GPTConfig.

    Raises:
        UserError: no such file, or not a checkpoint of ours; no such compute path; an encoding that
            is not installed here.
        pydantic.ValidationError: a share `skip` that is none.
    """
    # A mistake in what is asked for is no fault of the file.
    asked: dict[str, Any] = {"skip": skip} if impl is None else {"skip": skip, "impl": impl}
    check_impl(GPTConfig(**asked).impl)
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no checkpoint at '{path}'")
    try:
        checkpoint = read_checkpoint(path)
    except UserError:
        raise
    except Exception as cause:
        raise UserError(f"'{path}' is not a checkpoint of extrapo: not a file of tensors and plain values") from cause
    try:
        settings = dict(checkpoint["hyper_parameters"])
        settings["model"] = {**settings["model"], **asked}
        check_size(GPTConfig(**settings["model"]), checkpoint["state_dict"])
        module = LanguageModel(**{**settings, "compile": False})
        # All of a model has the precision of its weights, as Lightning trains it: also what follows from its options.
        weights = checkpoint["state_dict"]
        precision = weights["gpt.unembedding.weight"].dtype
        if precision not in PRECISIONS:
            raise UserError(
                f"its weights are {str(precision).removeprefix('torch.')}, not real numbers of 16 bits or more"
            )
        module.gpt.to(precision)
        check_dtypes(weights, module)
        module.load_state_dict(weights)
    except UserError as cause:
        raise UserError(f"cannot load '{path}': {cause}") from cause
    except ValidationError as cause:
        raise UserError(f"'{path}' is not a checkpoint of this extrapo: {complaints(cause)}") from cause
    except KeyError as cause:
        raise UserError(f"'{path}' is not a checkpoint of this extrapo: it has no {cause}") from cause
    except Exception as cause:
        reason = " ".join(str(cause).split())[:200] or type(cause).__name__
        raise UserError(f"'{path}' is not a checkpoint of this extrapo: {reason}") from cause
    return module.to(device).eval()
