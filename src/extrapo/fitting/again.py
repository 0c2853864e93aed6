"""The curve again: a trained model at other lengths, on other text, under another protocol."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from extrapo.config import RunConfig
from extrapo.data import prepare
from extrapo.errors import UserError
from extrapo.evaluation import Point, extrapolation_curve
from extrapo.fitting.plan import run_lengths
from extrapo.terminal import Output
from extrapo.tracking import Store
from extrapo.training import load


def find(run: str, root: Path, tracking_uri: str | None) -> Path:
    """The checkpoint that a run's own curve belongs to: the last one; or the checkpoint itself, given as a path.

    Raises:
        UserError: no such run or file, or a run that stopped before its first checkpoint.
    """
    if run.endswith(".ckpt") or Path(run).is_file():
        path = Path(run)
        if not path.is_file():
            raise UserError(f"no checkpoint at '{path}'")
        return path
    store = Store.existing(root, tracking_uri)
    run_id = store.find(run)
    path = store.root / run_id / "last.ckpt"
    if not path.is_file():
        raise UserError(f"run {run_id[:8]} has no checkpoint at '{path}'")
    return path


def beside(checkpoint: Path, name: str) -> Path:
    """A file of the run that a checkpoint lies in."""
    path = checkpoint.parent / name
    if not path.is_file():
        raise UserError(f"'{checkpoint}' has no {name} beside it: a checkpoint is read in the folder of its run")
    return path


def configuration(checkpoint: Path) -> RunConfig:
    """The configuration of the run that a checkpoint lies in."""
    return RunConfig(**yaml.safe_load(beside(checkpoint, "config.yaml").read_text(encoding="utf-8")))


def biases_again(checkpoint: Path, length: int, output: Output) -> tuple[str, list[NDArray[np.float32]]]:
    """A title, and what each layer of a trained model adds to s q.k on the first `length` validation tokens, (H, T, T).

    Raises:
        UserError: nothing lies beside the checkpoint, or the text is shorter.
    """
    recorded = configuration(checkpoint)
    corpus = prepare(recorded.data, tokenizer=f"file:{beside(checkpoint, 'tokenizer.json')}", say=output.say)
    if length > len(corpus.validation):
        raise UserError(f"the validation text has {len(corpus.validation):,} tokens, not {length:,}")
    tokens = torch.from_numpy(np.asarray(corpus.validation[:length], dtype=np.int64)).unsqueeze(0)
    found = load(checkpoint).gpt.biases(tokens)
    return f"{recorded.encoding} after {recorded.steps:,} steps", [bias[0].numpy() for bias in found]


def curve_again(
    run: str,
    output: Output,
    *,
    lengths: Sequence[int] | None = None,
    data: str | None = None,
    eval_tokens: int = 32_768,
    protocol: str = "disjoint",
    impl: str = "auto",
    skip: float | None = None,
    device: str = "auto",
    root: Path = Path("runs"),
    tracking_uri: str | None = None,
) -> tuple[list[Point], int]:
    """The curve of a trained model, and its training length.

    Args:
        run: a run, or the path of a checkpoint.
        output: where progress goes.
        lengths: evaluation lengths; None for the run's own, as far as the text allows.
        data: another text; it is cut by the tokenizer that the model was trained with.
        eval_tokens: tokens to score at every length.
        protocol: name of the protocol.
        impl: compute path of attention.
        skip: weight of 1 that the far keys which are left out may have together; None is exact.
        device: auto, cpu or cuda.
        root: folder of all runs.
        tracking_uri: MLflow store, if not the root's own.

    Raises:
        UserError: nothing to evaluate, or nothing to evaluate it on.
    """
    checkpoint = find(run, root, tracking_uri)
    recorded = configuration(checkpoint)
    tokenizer = beside(checkpoint, "tokenizer.json")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device == "cuda" and not torch.cuda.is_available():
        raise UserError("`device='cuda'`: this machine has no CUDA device that torch can see")
    elif device not in ("cpu", "cuda"):
        raise UserError(f"`device` must be auto, cpu or cuda, not '{device}'")
    corpus = prepare(data or recorded.data, tokenizer=f"file:{tokenizer}", say=output.say)
    asked = tuple(sorted(set(lengths))) if lengths else recorded.lengths
    settings = recorded.model_copy(update={"lengths": asked, "eval_tokens": eval_tokens})
    module = load(checkpoint, device, impl, skip)
    output.say(
        f"{recorded.encoding}, {recorded.layers} layers, trained at {recorded.seq_len}, on {corpus.name} "
        f"({len(corpus.validation):,} validation tokens, sha256 {corpus.sha256[:12]})"
    )
    with output.curve_progress() as progress:
        points = extrapolation_curve(
            module.token_nll,
            corpus.validation,
            run_lengths(settings, len(corpus.validation), output.say),
            tokens_wanted=eval_tokens,
            protocol_name=protocol,
            device=device,
            progress=progress,
        )
    return points, recorded.seq_len
