"""What a run is called where nobody says: its encoding, and all that tells it from a run of which nothing is said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from extrapo.config.evaluation import EvaluationSettings
from extrapo.config.hardware import ComputeSettings, HardwareSettings
from extrapo.config.record import RecordSettings
from extrapo.config.settings import Settings

#: No result depends on these, or by chance alone.
WITHOUT_RESULT = {
    *("seed", "micro_batch", "val_every", "val_tokens", "log_every", "on_nan", "heatmaps"),
    *RecordSettings.model_fields,
    *ComputeSettings.model_fields,
    *HardwareSettings.model_fields,
} - {"precision"}
#: Those that a name has in words of its own, and those of what is done with the run when it is trained.
TOLD = {"encoding", "kernel", "swap_to", "layers", "seed", "data", "init", *EvaluationSettings.model_fields}
#: Derived from others unless they are set, in the order in which one follows from those before it.
DERIVED = ("dim", "heads", "batch_size", "lr", "warmup", "swap_step", "swap_lr", "swap_warmup")
#: As long as a name may be.
LONGEST = 200


def usual_name(run: Any, usual: Settings) -> str:
    """As in `k-cable-6l-s0-steps500`: encoding, its kernel if that is not its own, layers, seed, the text if it is not
    the usual one, whether it goes on from another run, and each setting of the training that differs.

    Args:
        run: the settings as they are asked for.
        usual: those of which nothing was said.
    """
    kind, _, path = run.data.partition(":")
    text = [] if kind == "stdlib" else [PurePath(path).stem if kind == "text" else kind]
    kernel = [run.kernel] if run.kernel else []
    swap = [f"to-{run.swap_to}"] if run.swap_to else []
    start = ["continued"] if run.init else []
    name = "-".join(
        [run.encoding, *kernel, *swap, f"{run.layers}l", f"s{run.seed}", *text, *start, *others(run, usual)]
    )
    return "".join(sign if sign.isprintable() else "_" for sign in name)[:LONGEST]


def others(run: Any, usual: Settings) -> Iterator[str]:
    """The settings that no other word of a name says, where they differ."""
    derived = set_by_hand(run)
    for key in type(usual).model_fields:
        value = getattr(run, key)
        differs = key in derived if key in DERIVED else value != getattr(usual, key)
        if differs and key not in TOLD | WITHOUT_RESULT:
            yield from flat("T" if key == "seq_len" else key.replace("_", "-"), value)


def set_by_hand(run: Any) -> dict[str, Any]:
    """Of the derived settings those that do not follow from the others."""
    free = run.model_copy(update={**dict.fromkeys((*DERIVED, "micro_batch")), "name": "any"})
    told = {}
    for key in DERIVED:
        value = getattr(run, key)
        if value is not None and value != getattr(free.resolved(), key):
            told[key] = value
            free = free.model_copy(update={key: value})
    return told


def flat(key: str, value: Any) -> Iterator[str]:
    """A setting in a word; of a group, one for each member."""
    if isinstance(value, Mapping):
        for inner, one in value.items():
            yield from flat(str(inner).replace("_", "-"), one)
    elif isinstance(value, bool):
        yield key if value else f"no-{key}"
    else:
        yield f"{key}{value:g}" if isinstance(value, float) else f"{key}{value}"
