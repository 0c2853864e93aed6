"""A run: what is trained, on what, how, how it is measured and where it is kept; as it is asked for, and resolved."""

from __future__ import annotations

from extrapo.config.evaluation import EvaluationSettings
from extrapo.config.gpt import GPTConfig
from extrapo.config.hardware import ComputeSettings, HardwareSettings
from extrapo.config.model import EncodingSettings, ShapeSettings, SwapSettings
from extrapo.config.naming import usual_name
from extrapo.config.record import RecordSettings
from extrapo.config.text import TextSettings
from extrapo.config.training import InitSettings, TrainingSettings
from extrapo.config.values import Count, CountOrZero, Name, Positive, Width
from extrapo.errors import UserError


# The settings come in the order of the groups from the last to the first: pydantic collects them as Python does.
class RunConfig(
    RecordSettings,
    ComputeSettings,
    HardwareSettings,
    EvaluationSettings,
    TrainingSettings,
    InitSettings,
    TextSettings,
    ShapeSettings,
    SwapSettings,
    EncodingSettings,
):
    """One run, as it is asked for.

    `layers` is the one dial: a value of None is derived from it by `resolved`.
    """

    def resolved(self, devices: int = 1) -> ResolvedConfig:
        """The same run with every derived value written out.

        Args:
            devices: number of processes that share a step.

        Raises:
            UserError: a batch that does not divide, or a swap that never happens.
        """
        heads = self.heads or (_heads_for(self.dim) if self.dim else max(2, round(2 * self.layers / 3)))
        dim = self.dim or 32 * heads
        batch = self.batch_size or max(devices, 4096 // self.seq_len // devices * devices)
        if batch % devices:
            raise UserError(f"a batch of {batch} sequences does not divide among {devices} devices")
        share = batch // devices
        micro = self.micro_batch or share
        if share % micro:
            raise UserError(f"`micro_batch` {micro} does not divide a device's share of {share} sequences")
        # 7e-4 at width 768, near the papers' 6e-4; narrower models take more.
        lr = self.lr or round(0.02 / dim**0.5, 7)
        warmup = min(self.steps, max(10, self.steps // 25)) if self.warmup is None else self.warmup
        derived = {
            "heads": heads,
            "dim": dim,
            "batch_size": batch,
            "micro_batch": micro,
            "lr": lr,
            "warmup": warmup,
            **self._swap(lr, warmup),
            "val_every": self.val_every or max(1, self.steps // 6),
            "name": self.name or usual_name(self, RunConfig()),
        }
        return ResolvedConfig(**{**dict(self), **derived})

    def _swap(self, lr: float, warmup: int) -> dict[str, int | float]:
        """When the second encoding takes over, and its rates; nothing without one."""
        if self.swap_to is None:
            for name in ("swap_options", *SwapSettings.model_fields):
                if getattr(self, name) != RunConfig.model_fields[name].get_default(call_default_factory=True):
                    raise UserError(f"`{name}` is of another encoding that takes over: say which with `swap_to`")
            return {}
        swap = self.swap_step or max(1, 4 * self.steps // 5)
        if swap >= self.steps:
            raise UserError(f"`swap_step` {swap} does not lie before the last of {self.steps} steps")
        again = warmup if self.swap_warmup is None else self.swap_warmup
        return {"swap_step": swap, "swap_lr": self.swap_lr or lr, "swap_warmup": min(again, self.steps - swap)}


class ResolvedConfig(RunConfig):
    """A run with all that follows from its own settings written out, from `RunConfig.resolved`.

    What still may be None, or `auto`, has a meaning of its own: of the model, the kernel and the sharing of the
    encoding's authors, keys and values for every head, the usual scale, no swap; of the machine that it runs on, its
    devices, and the precision and the compiling that suit them; of the text, the default lengths that fit it.
    """

    heads: Width
    dim: Width
    batch_size: Count
    micro_batch: Count
    lr: Positive
    warmup: CountOrZero
    val_every: Count
    name: Name

    def gpt(self, vocab_size: int) -> GPTConfig:
        """The shape of this run's model.

        Args:
            vocab_size: number of token ids that the tokenizer came to.

        Raises:
            pydantic.ValidationError: heads that do not divide the width.
        """
        shared = [*EncodingSettings.model_fields, *ShapeSettings.model_fields, *ComputeSettings.model_fields]
        return GPTConfig(
            vocab_size=vocab_size,
            train_length=self.seq_len,
            **{field: getattr(self, field) for field in shared},
        )


def _heads_for(dim: int) -> int:
    """Heads of about 32 dimensions each that divide a width."""
    return min((h for h in range(1, dim + 1) if dim % h == 0), key=lambda h: abs(dim / h - 32))
