"""extrapo: length extrapolation by positional encoding.

Read the package in this order:

    config/       the settings of a model and of a run, in groups
    kernels/      phi, the forms that turn a distance into a bias
    positions.py  where a token stands: by its index, or by a sum over the tokens before it
    encodings/    one family per file, the paper in line one; base.py holds the two interfaces
    attention/    reference, fold, tiles, flex: four exact ways to attend under a bias, and the choice between them
    gpt.py        the backbone, and decoding with explicit state
    training.py   the LightningModule
    data/         text to batches: corpora, tokenizer, shards, loader
    evaluation/   loss against length, under a named protocol
    location.py   where runs are recorded; files.py writes what lies there, whole or not at all
    tracking/     MLflow: what a run leaves behind
    run/          what is done with a run, a file per verb: fit, resume, evaluate, generate, load
    bench/        time and memory beside plain attention
    sweep/        many runs of one question, of which nothing is lost
    cli/          the command line

Importing `extrapo` itself costs nothing: a name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from extrapo import attention, encodings, evaluation, kernels, testing, tracking
    from extrapo.config import GPTConfig, RunConfig
    from extrapo.gpt import GPT
    from extrapo.run.load import load

_SUBMODULES = ("attention", "data", "encodings", "evaluation", "figures", "kernels", "testing", "tracking")
_NAMES = {
    "GPT": "extrapo.gpt",
    "GPTConfig": "extrapo.config",
    "RunConfig": "extrapo.config",
    "load": "extrapo.run.load",
}

__all__ = [
    "GPT",
    "GPTConfig",
    "RunConfig",
    "__version__",
    "attention",
    "encodings",
    "evaluation",
    "kernels",
    "load",
    "testing",
    "tracking",
]


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return import_module(f"extrapo.{name}")
    if name in _NAMES:
        return getattr(import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'extrapo' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *_SUBMODULES, *_NAMES})
