"""extrapo: length extrapolation by positional encoding.

Read the package in this order:

    registry.py   name -> class; options.py checks what a class is given, errors.py says what went wrong
    harmless.py   what a terminal would obey, written out; silence.py says that a command still runs; words.py counts
                  things for people
    reading.py    what people name is read with care; YAML
    config/       what a run is: the settings in groups, without torch
    kernels/      phi, the forms that turn a distance into a bias
    encodings/    one scheme per file, the paper in line one; core/ is what they are made of, and the seam to attention
    known.py      what the encodings say of themselves, kept for where no model is computed
    attention/    the back ends that attend under a bias, the list of them, and the choice; cpu/ and gpu/ are wings
    pruned.py     attention that is not exact, for evaluation: far keys that cannot matter are left out
    gpt.py        the backbone, and decoding with explicit state; block.py its layers, packing.py documents in rows
    loss.py       cross-entropy in chunks
    data/         text to batches: sources, tokenizers, shards, loader; stories/ tells long ones
    evaluation/   loss against length, under a named protocol, how sure it is; probes of what is found far back; theory
    training.py   the LightningModule; sharding.py its weights over many devices, flops.py the work of a step
    location.py   where runs are recorded; files.py writes what lies there, whole or not at all; cores.py counts cores;
                  children.py keeps what is started from modules that lie in a shared folder; interruption.py hears a
                  Ctrl-C that Python drops
    figures/      arrays to pictures
    tracking/     MLflow: what a run leaves behind
    report/       what came of some runs as one page of HTML, Markdown, LaTeX
    run/          what is done with a run, a file per verb: fit, resume, evaluate, compare, probe ...
    sweep/        many runs of one question, of which nothing is lost
    notebook.py   what the notebooks share
    export/       a trained model for transformers; harness/ for lm-evaluation-harness
    bench/        time and memory beside plain attention
    doctor/       what works on this machine, and why the rest does not
    catalogue.py  what there is to choose from; testing.py the contracts of encodings and (kernel_contract.py) kernels
    terminal/     what people read while they wait
    cli/          the command line; help_pages.py its help as it was printed last; kept.py holds that, and other things
                  that take long to find out

Importing `extrapo` itself costs nothing: a name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from extrapo import attention, encodings, evaluation, kernels, testing, tracking
    from extrapo import data as data
    from extrapo import figures as figures
    from extrapo.config import GPTConfig, RunConfig
    from extrapo.evaluation import theory
    from extrapo.gpt import GPT
    from extrapo.run.load import load

_SUBMODULES = ("attention", "data", "encodings", "evaluation", "figures", "kernels", "testing", "tracking")
#: parts of a folder that have a name of their own here.
_PARTS = {"theory": "extrapo.evaluation.theory"}
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
    "theory",
    "tracking",
]


if not TYPE_CHECKING:  # for which every name would be one

    def __getattr__(name: str) -> Any:
        if name in _SUBMODULES:
            return import_module(f"extrapo.{name}")
        if name in _PARTS:
            return import_module(_PARTS[name])
        if name in _NAMES:
            return getattr(import_module(_NAMES[name]), name)
        raise AttributeError(f"module 'extrapo' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *_SUBMODULES, *_PARTS, *_NAMES})
